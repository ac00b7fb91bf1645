// Events are handled at the root, because Gradio patches the marks when the scores change.
element.addEventListener("click", (event) => {
  const mark = event.target.closest("button[data-index]");
  if (mark) trigger("select", { index: Number(mark.dataset.index), value: null, selected: true });
});
