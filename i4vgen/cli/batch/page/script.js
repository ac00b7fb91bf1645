// Keeps the videos of a card in sync: all pause while one is loading. If one is out of sync or at its end, all pause,
// seek to the same time and restart together. Only videos near the viewport are loaded and played.

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
        if (error.name === "NotAllowedError") setPlaying(false); // autoplay requires a click first
      });
    }
  } else if (!playing) pause();
}

// Moves the tracks of a card to the current frame of its first video.
function follow(card) {
  const [lead] = card.querySelectorAll("video");
  if (!lead?.duration) return;
  for (const track of card.querySelectorAll(".track")) {
    const cells = [...track.children];
    const frame = Math.min(Math.floor((lead.currentTime / lead.duration) * cells.length + 1e-3), cells.length - 1);
    if (cells[frame].classList.contains("now")) continue;
    cells.forEach((cell, i) => cell.classList.toggle("now", i === frame));
    track.setAttribute("aria-valuenow", frame + 1);
    track.setAttribute("aria-valuetext", cells[frame].title);
  }
}

// Pauses all videos and seeks those of a card to the middle of a frame.
function goTo(track, frame) {
  setPlaying(false);
  const { length } = track.children;
  const place = (Math.min(Math.max(frame, 0), length - 1) + 0.5) / length;
  for (const video of track.closest("article").querySelectorAll("video")) {
    if (video.duration) video.currentTime = place * video.duration;
  }
}

const STEPS = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };

function tick() {
  seen.forEach(keepInStep);
  seen.forEach(follow);
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
  // Cards without a value come last in either direction.
  const order = (a, b) => (value(a) === "") - (value(b) === "") || up * (value(a) - value(b)) || a.dataset.place - b.dataset.place;
  document.getElementById("runs").append(...[...cards].sort(order));
}

function search({ target }) {
  const words = target.value.toLowerCase().split(/\s+/);
  for (const card of cards) {
    const prompt = card.querySelector("h2").textContent.toLowerCase();
    card.hidden = !words.every((word) => prompt.includes(word));
  }
  document.getElementById("none").hidden = !cards.length || cards.some((card) => !card.hidden);
}

document.getElementById("runs").addEventListener("click", ({ target }) => {
  const cell = target.closest(".track i");
  if (cell) goTo(cell.parentElement, [...cell.parentElement.children].indexOf(cell));
});
document.getElementById("runs").addEventListener("keydown", (event) => {
  const track = event.target.closest(".track");
  if (!track || !(event.key in STEPS)) return;
  event.preventDefault();
  goTo(track, track.getAttribute("aria-valuenow") - 1 + STEPS[event.key]);
});
button.addEventListener("click", () => setPlaying(!playing));
document.getElementById("order").addEventListener("change", sort);
document.getElementById("search").addEventListener("input", search);
document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
setPlaying(playing);
sort(); // browsers restore the selected order on reload
requestAnimationFrame(tick);
