// Each card's videos play in step: they start together, and whenever one of them is loading, has strayed or is at the end
// all stop, go to the same place and start together again. Only those on the screen are loaded and play.

const STRAY = 0.06; // seconds; half a frame at 8 frames per second
const cards = [...document.querySelectorAll("article")];
const button = document.getElementById("play");
const seen = new Set();
let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;

const watcher = new IntersectionObserver((changes) => {
  for (const { target, isIntersecting } of changes) {
    if (isIntersecting) seen.add(target);
    else {
      seen.delete(target);
      for (const video of target.querySelectorAll("video")) video.pause();
    }
  }
}, { rootMargin: "200px" });
cards.forEach((card) => watcher.observe(card));

function keepInStep(card) {
  const videos = [...card.querySelectorAll("video")].filter((video) => !video.error);
  for (const video of videos) {
    if (!video.src) [video.src, video.preload] = [video.dataset.src, "auto"];
  }
  if (!videos.length) return;
  const [lead] = videos;
  const pause = () => videos.forEach((video) => video.pause());
  const ready = videos.every((video) => video.readyState >= 2 && !video.seeking);
  if (!ready) return pause();
  const over = videos.some((video) => video.ended);
  const place = over ? 0 : lead.currentTime;
  if (over || videos.some((video) => Math.abs(video.currentTime - place) > STRAY)) {
    if (over && !playing) return;
    pause();
    for (const video of videos) video.currentTime = place;
  } else if (playing && videos.some((video) => video.paused)) {
    for (const video of videos) {
      video.play().catch((error) => {
        if (error.name === "NotAllowedError") setPlaying(false); // the browser wants a click first
      });
    }
  } else if (!playing) pause();
}

function tick() {
  seen.forEach(keepInStep);
  requestAnimationFrame(tick);
}

function setPlaying(value) {
  playing = value;
  button.textContent = playing ? "Pause" : "Play";
}

function sort() {
  const [option] = document.getElementById("order").selectedOptions;
  const up = "up" in option.dataset ? 1 : -1;
  const value = (card) => card.dataset[option.value];
  // What has no such figure comes last, either way.
  const order = (a, b) => (value(a) === "") - (value(b) === "") || up * (value(a) - value(b)) || a.dataset.place - b.dataset.place;
  document.getElementById("runs").append(...cards.toSorted(order));
}

function search({ target }) {
  const words = target.value.toLowerCase().split(/\s+/);
  for (const card of cards) {
    const prompt = card.querySelector("h2").textContent.toLowerCase();
    card.hidden = !words.every((word) => prompt.includes(word));
  }
  document.getElementById("none").hidden = !cards.length || cards.some((card) => !card.hidden);
}

button.addEventListener("click", () => setPlaying(!playing));
document.getElementById("order").addEventListener("change", sort);
document.getElementById("search").addEventListener("input", search);
document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
setPlaying(playing);
sort(); // a reload keeps what was chosen
requestAnimationFrame(tick);
