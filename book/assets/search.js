// Finds sections that hold every word typed (a word counts from its beginning: "merg" finds "merges"), best first.
(() => {
  const field = document.getElementById("search-words");
  const status = document.querySelector(".search-status");
  const list = document.querySelector(".search-results");
  const root = document.documentElement.dataset.content_root;
  const plain = (text) => text.toLowerCase().normalize("NFKD").replace(/[\u0300-\u036f]/g, "");
  const sections = window.bookSearchData.map(([address, page, title, text]) => ({
    address, page, title, text, plainTitle: plain(`${title} ${title ? "" : page}`), plainText: plain(text),
  }));
  const escaped = (word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

  const score = (section, words) => {
    let sum = section.plainTitle.trim() === words.join(" ") ? 60 : 0; // a chapter or a term of that very name comes first
    for (const word of words) {
      const pattern = new RegExp(`(?<![\\p{L}\\p{N}])${escaped(word)}`, "gu");
      const inTitle = pattern.test(section.plainTitle) ? 1 : 0;
      const times = (section.plainText.match(pattern) || []).length;
      if (!inTitle && !times) return 0;
      sum += 12 * inTitle + Math.min(times, 8) / (1 + section.plainText.length / 4000);
    }
    return sum;
  };

  // The words around the first one found, with the words found marked; everything goes in as text.
  const excerpt = (section, words) => {
    const first = Math.min(...words.map((word) => section.plainText.search(new RegExp(`(?<![\\p{L}\\p{N}])${escaped(word)}`, "u"))).filter((at) => at >= 0));
    const from = Number.isFinite(first) ? Math.max(0, section.text.lastIndexOf(" ", Math.max(0, first - 60))) : 0;
    const shown = section.text.slice(from, from + 200);
    const line = document.createElement("p");
    line.append(from > 0 ? "… " : "");
    for (const part of shown.split(/([\p{L}\p{N}]+)/u)) {
      if (words.some((word) => plain(part).startsWith(word))) {
        const mark = document.createElement("mark");
        mark.textContent = part;
        line.append(mark);
      } else line.append(part);
    }
    line.append(from + 200 < section.text.length ? " …" : "");
    return line;
  };

  const run = () => {
    const words = plain(field.value).split(/\s+/).filter(Boolean);
    list.replaceChildren();
    if (!words.length) { status.textContent = ""; return; }
    const found = sections.map((section) => [score(section, words), section]).filter(([points]) => points > 0)
      .sort((a, b) => b[0] - a[0]).slice(0, 40);
    status.textContent = found.length
      ? `${found.length}${found.length === 40 ? " or more" : ""} section${found.length > 1 ? "s" : ""} found.`
      : `Nothing found for “${field.value.trim()}”. Try the beginning of a word, or fewer words.`;
    for (const [, section] of found) {
      const item = document.createElement("li");
      const link = document.createElement("a");
      link.href = root + section.address;
      link.textContent = section.title ? `${section.page}: ${section.title}` : section.page;
      item.append(link, excerpt(section, words));
      list.append(item);
    }
  };

  field.value = new URLSearchParams(location.search).get("q") || "";
  field.addEventListener("input", () => {
    run();
    try { history.replaceState(null, "", field.value ? `?q=${encodeURIComponent(field.value)}` : location.pathname); } catch {}
  });
  field.form.addEventListener("submit", (event) => { event.preventDefault(); run(); });
  run();
  field.focus();
})();
