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
}
