// The meaning of a column opens by itself under a mouse and with the keyboard's focus. A tap opens it without this
// script: its button names it as its popover. Gradio runs this once and patches the page under `element` later, so
// events are caught at the root.

const head = (event) => event.target.closest("[popovertarget]");
const show = (event) => head(event)?.popoverTargetElement.showPopover({ source: head(event) });
const hide = (event) => head(event)?.popoverTargetElement.hidePopover();

element.addEventListener("focusin", show);
element.addEventListener("focusout", hide);
element.addEventListener("pointerover", (event) => event.pointerType === "mouse" && show(event));
element.addEventListener("pointerout", (event) => event.pointerType === "mouse" && hide(event));
