// Writes the run and the form into the address bar.
studio.writeLink = (names, run, ...values) => {
  const query = new URLSearchParams();
  names.forEach((name, i) => values[i] !== null && values[i] !== "" && query.set(name, values[i]));
  if (run) query.set("run", run);
  const theme = new URLSearchParams(location.search).get("__theme");
  if (theme) query.set("__theme", theme);
  history.replaceState(null, "", "?" + query);
};

studio.writeNewLink = (names, newest, ...values) => {
  if (newest?.length) studio.writeLink(names, ...values);
};

studio.copyLink = async () => {
  const button = document.getElementById("copy-link");
  const label = button.textContent;
  await navigator.clipboard.writeText(location.href);
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = label; }, 1500);
};
