() => {
  // Prompts may be right-to-left, but Gradio's text boxes have a fixed direction.
  const eitherWay = (box) => { box.dir = "auto"; };
  document.querySelectorAll("textarea").forEach(eitherWay);
  document.addEventListener("focusin", ({ target }) => target.matches("textarea") && eitherWay(target));

  // The beat of a followed run changes with every update. If it is unchanged for 15 looks, a second apart, the
  // stream has ended without an error: the page reloads and continues with the tab's state on the server. Looks are
  // counted because a page that was busy or asleep has not read its updates yet.
  const beats = new Map();
  setInterval(() => {
    for (const live of document.querySelectorAll(".live[data-beat]")) {
      const { parentElement: place, dataset: { beat } } = live;
      if (!beat || document.hidden) beats.delete(place);
      else if (beats.get(place)?.beat !== beat) beats.set(place, { beat, looks: 0 });
      else if (++beats.get(place).looks === 15) location.reload();
    }
  }, 1000);

  // Arrow keys move between the cards of a gallery. Enter picks a card, as on every button.
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

  // A run file, or a picture or video that records how it was made, opens when it is dropped on the page. The drop
  // zone for an uploaded image accepts any picture as an image.
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
