// Caught at the root: Gradio patches the cards when they change. A card is picked by a click, and ticked by its box, by
// X, or by a click with a key held down as in a list of files.
const tell = (button, toggle) =>
  trigger("select", { index: Number(button.dataset.index), value: null, selected: true, toggle });

element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-index]");
  if (button) tell(button, button.matches(".tick") || event.ctrlKey || event.metaKey || event.shiftKey);
});

element.addEventListener("keydown", (event) => {
  const button = event.target.closest("button[data-index]");
  if (!button || event.key.toUpperCase() !== props.words.key || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  tell(button, true);
});
