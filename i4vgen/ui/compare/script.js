// One clock for all panes. The videos play by themselves, and the clock pulls back whichever strays by half a frame,
// so two panes are never a whole frame apart. While any pane is loading or seeking the clock waits for it.
//
// Gradio runs this once with `element` (this component's root), `props` and `watch`. It patches the page under `element`
// when the value changes, so nodes are looked up when they are needed and clicks are caught at the root.

const find = (selector) => element.querySelector(selector);
const videos = () => [...element.querySelectorAll("video")];

let clock = 0; // seconds into the loop
let last = 0; // time stamp of the last tick
let looping = true;
let playing = !window.matchMedia("(prefers-reduced-motion: reduce)").matches;

function film() {
  const player = find(".player");
  if (!player) return null;
  const frames = Number(player.dataset.frames);
  const fps = Number(player.dataset.fps);
  return { frames, fps, duration: frames / fps };
}

function frameNumber({ frames, fps }) {
  return Math.min(frames - 1, Math.floor(clock * fps + 1e-6));
}

function tick(now) {
  if (!element.isConnected) return;
  requestAnimationFrame(tick);
  const elapsed = Math.min((now - last) / 1000, 0.1); // a tab that was hidden goes on where it was
  last = now;
  const length = film();
  if (!length) return;
  const panes = videos();
  const ready = panes.every((video) => video.readyState >= 2 && !video.seeking);
  if (playing && ready) advance(elapsed, length);
  for (const video of panes) follow(video, length);
  show(length);
}

function advance(elapsed, { duration, frames, fps }) {
  clock += elapsed;
  if (clock < duration) return;
  if (looping) {
    clock %= duration;
  } else {
    clock = (frames - 0.5) / fps;
    playing = false;
  }
}

function follow(video, length) {
  if (video.readyState < 1 || video.seeking) return;
  const half = 0.5 / length.fps;
  if (playing) {
    if (video.ended || Math.abs(video.currentTime - clock) > half) video.currentTime = clock;
    if (video.paused) video.play().catch(() => {}); // refused or interrupted: the next tick asks again
  } else {
    if (!video.paused) video.pause();
    const middle = frameNumber(length) / length.fps + half; // the middle of a frame shows that frame in every browser
    if (Math.abs(video.currentTime - middle) > 0.01) video.currentTime = middle;
  }
}

function show(length) {
  const frame = frameNumber(length);
  const scrub = find(".scrub");
  if (Number(scrub.value) !== frame) scrub.value = frame;
  const where = `${frame + 1} / ${length.frames}`;
  if (find(".where").textContent !== where) find(".where").textContent = where;
  const play = find(".play");
  play.dataset.state = playing ? "playing" : "paused";
  play.setAttribute("aria-label", playing ? props.words.pause : props.words.play);
  find(".loop").setAttribute("aria-pressed", String(looping));
}

element.addEventListener("click", (event) => {
  const length = film();
  if (!length) return;
  if (event.target.closest(".loop")) looping = !looping;
  if (event.target.closest(".play, video")) {
    if (!playing && !looping && frameNumber(length) === length.frames - 1) clock = 0;
    playing = !playing;
  }
});

element.addEventListener("input", (event) => {
  const length = film();
  if (!length || !event.target.closest(".scrub")) return;
  playing = false;
  clock = (Number(event.target.value) + 0.5) / length.fps;
});

watch("value", () => {
  clock = 0;
});

requestAnimationFrame(tick);
