() => {
  // Arrow keys walk from card to card in the galleries; Enter, as on every button, picks.
  document.addEventListener("keydown", (event) => {
    const gallery = event.target.closest("#gallery, #history");
    const card = event.target.closest("button.thumbnail-lg");
    if (!gallery || !card) return;
    const cards = [...gallery.querySelectorAll("button.thumbnail-lg")];
    const here = cards.indexOf(card);
    const top = (button) => button.getBoundingClientRect().top;
    const columns = Math.max(1, cards.filter((button) => Math.abs(top(button) - top(cards[0])) < 4).length);
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    const next = cards[here + step];
    if (!step || !next) return;
    event.preventDefault();
    next.focus();
  });

  // A run that is dropped anywhere on the page, or a file that says how it was made, goes where its button would have
  // put it. A picture that is dropped where an image of one's own goes is just that.
  const isRun = (file) => /\.(json|zip|mp4|gif|png|webp)$/i.test(file.name);
  document.addEventListener("dragover", (event) => {
    if (event.dataTransfer.types.includes("Files")) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    const file = [...event.dataTransfer.files].find(isRun);
    if (!file || event.target.closest("#own")) return;
    event.preventDefault();
    const carried = new DataTransfer();
    carried.items.add(file);
    const input = document.querySelector("#runs input[type=file]");
    input.files = carried.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
}
