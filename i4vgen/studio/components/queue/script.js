// Events are handled at the root, because Gradio patches the rows when they change.
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-run]");
  if (button) trigger("select", { index: 0, value: button.dataset.run, selected: true });
});
