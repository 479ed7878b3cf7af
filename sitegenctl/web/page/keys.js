// Focus the terminal, so that keys work without a click.
window.addEventListener("load", () => document.querySelector(".xterm-helper-textarea").focus());
