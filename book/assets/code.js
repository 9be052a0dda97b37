// A button on each block of code that copies it.
(() => {
  const fallback = (text) => {
    const area = document.createElement("textarea");
    area.value = text;
    area.style.position = "fixed";
    area.style.opacity = "0";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done ? Promise.resolve() : Promise.reject(new Error("not allowed"));
  };
  const copy = (text) => (navigator.clipboard ? navigator.clipboard.writeText(text).catch(() => fallback(text)) : fallback(text));

  for (const block of document.querySelectorAll("div.highlight")) {
    if (block.closest(".cell_output")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", "Copy this code");
    button.addEventListener("click", () => {
      copy(block.querySelector("pre").innerText.replace(/\n$/, "")).then(
        () => { button.textContent = "Copied"; },
        () => { button.textContent = "Press Ctrl+C"; },
      ).finally(() => setTimeout(() => { button.textContent = "Copy"; }, 1500));
    });
    block.append(button);
  }
})();
