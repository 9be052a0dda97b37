// What every page can do: switch its theme, open its contents on a narrow screen, and let a keyboard reach what scrolls.
(() => {
  const root = document.documentElement;
  const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemIsDark.matches);

  // The theme follows the system until the reader chooses the other one; choosing the system's again forgets the choice.
  const themeButton = document.querySelector(".theme-button");
  const setTheme = (dark) => {
    const theme = dark ? "dark" : "light";
    if (dark === systemIsDark.matches) delete root.dataset.theme;
    else root.dataset.theme = theme;
    try {
      if (root.dataset.theme) localStorage.setItem("book-theme", theme);
      else localStorage.removeItem("book-theme");
    } catch {} // storage refused: the choice holds for this page
    themeButton.setAttribute("aria-pressed", String(isDark()));
  };
  themeButton.setAttribute("aria-label", "Dark theme");
  themeButton.setAttribute("aria-pressed", String(isDark()));
  themeButton.addEventListener("click", () => setTheme(!isDark()));
  systemIsDark.addEventListener("change", () => themeButton.setAttribute("aria-pressed", String(isDark())));

  // Paper is light.
  let beforePrint;
  addEventListener("beforeprint", () => { beforePrint = root.dataset.theme; root.dataset.theme = "light"; });
  addEventListener("afterprint", () => { if (beforePrint) root.dataset.theme = beforePrint; else delete root.dataset.theme; });

  const menuButton = document.querySelector(".menu-button");
  const contents = document.getElementById("contents");
  const setMenu = (open) => {
    root.classList.toggle("menu-open", open);
    menuButton.setAttribute("aria-expanded", String(open));
  };
  menuButton.addEventListener("click", () => {
    setMenu(!root.classList.contains("menu-open"));
    if (root.classList.contains("menu-open")) contents.querySelector("[aria-current], a").focus();
  });
  contents.addEventListener("click", (event) => { if (event.target.closest("a")) setMenu(false); });
  addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
    if (event.key === "Escape" && root.classList.contains("menu-open")) {
      setMenu(false);
      menuButton.focus();
    } else if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      const field = document.getElementById("search-words");
      if (field) field.focus();
      else location.href = document.querySelector('a.bar-button[href*="search"]').href;
    }
  });
  const current = contents.querySelector("[aria-current]");
  if (current) contents.scrollTop = Math.max(0, current.offsetTop - contents.clientHeight / 3);

  // The section being read is marked in the contents.
  const links = new Map([...contents.querySelectorAll('a[href^="#"]')].map((a) => [a.getAttribute("href").slice(1), a]));
  const headings = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  if (headings.length) {
    const mark = () => {
      const line = innerHeight / 3;
      const passed = headings.filter((heading) => heading.getBoundingClientRect().top <= line).pop();
      for (const [id, link] of links) {
        if (passed && passed.id === id) link.setAttribute("aria-current", "location");
        else link.removeAttribute("aria-current");
      }
    };
    let waiting = false;
    addEventListener("scroll", () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; mark(); });
    }, { passive: true });
    mark();
  }

  // What scrolls inside its frame can be reached by Tab, and only that.
  const frames = "pre, .pst-scrollable-table-container, .output, .katex-display, .book-widget-fallback";
  const reach = () => {
    for (const frame of document.querySelectorAll(frames)) {
      const overflow = getComputedStyle(frame);
      const scrolls = (frame.scrollWidth > frame.clientWidth && overflow.overflowX !== "visible")
        || (frame.scrollHeight > frame.clientHeight && overflow.overflowY !== "visible");
      if (scrolls) frame.tabIndex = 0;
      else frame.removeAttribute("tabindex");
    }
  };
  let settle;
  // The article changes its size with the window, and when a figure or a fold opens in it.
  new ResizeObserver(() => { clearTimeout(settle); settle = setTimeout(reach, 150); }).observe(document.querySelector("article"));
  document.addEventListener("toggle", reach, true);
  document.fonts.ready.then(reach);
  reach();
})();
