studio.scrollToPanel = (id) => document.getElementById(id).scrollIntoView({ behavior: "smooth", block: "nearest" });

studio.saveFile = (file) => {
  const link = document.createElement("a");
  [link.href, link.download] = [file.url, file.orig_name];
  link.click();
};
