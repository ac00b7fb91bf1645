studio.randomSeed = () => Math.floor(Math.random() * 2 ** 31);

studio.toSeconds = (frames, fps) => Math.round((100 * frames) / fps) / 100;

// Does not change the seconds while the user types them.
studio.followFrames = (frames, fps, seconds) =>
  document.activeElement.closest("#seconds") ? seconds : studio.toSeconds(frames, fps);

studio.toFrames = (seconds, fps, frames) => {
  if (!seconds) return frames; // the field is empty or 0
  const { min, max, step } = document.querySelector("#num-frames input[type=range]");
  const steps = Math.round((seconds * fps - min) / step);
  return Math.min(Math.max(Number(min) + steps * step, min), max);
};
