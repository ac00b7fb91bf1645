// Events are handled at the root, because Gradio patches the cards when they change. A click picks a card. Its
// checkbox, the X key or a click with Ctrl, Cmd or Shift ticks or unticks it.
const tell = (button, toggles) => {
  const index = Number(button.dataset.index);
  const tick = element.querySelector(`.tick[data-index="${index}"]`);
  const ticked = toggles ? tick.getAttribute("aria-checked") !== "true" : null;
  trigger("select", { index, value: null, selected: true, ticked });
};

element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-index]");
  if (button) tell(button, button.matches(".tick") || event.ctrlKey || event.metaKey || event.shiftKey);
});

element.addEventListener("keydown", (event) => {
  const button = event.target.closest("button[data-index]");
  if (!button || event.key.toUpperCase() !== "X" || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  tell(button, true);
});
