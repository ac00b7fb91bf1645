// Opens the explanation of a column on mouse hover and keyboard focus. A tap opens it without this script, as the
// popover of its button. Gradio runs this script once and patches the page under `element` later, so events are
// handled at the root.

const head = (event) => event.target.closest("[popovertarget]");
const meaning = (event) => head(event)?.popoverTargetElement; // undefined in browsers without popovers (style.css)
const show = (event) => meaning(event)?.showPopover({ source: head(event) });
const hide = (event) => meaning(event)?.hidePopover();

element.addEventListener("focusin", show);
element.addEventListener("focusout", hide);
element.addEventListener("pointerover", (event) => event.pointerType === "mouse" && show(event));
element.addEventListener("pointerout", (event) => event.pointerType === "mouse" && hide(event));
