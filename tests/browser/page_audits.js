// What Lighthouse and axe ask of a page, asked here of the page as it is drawn. Each returns its problems as texts.
const audits = {
  contrast() {
    const parse = text => [...text.matchAll(/rgba?\(([^)]+)\)/g)].map(found => {
      const [r, g, b, a = "1"] = found[1].split(/[\s,/]+/);
      return [Number(r), Number(g), Number(b), Number(a)];
    });
    const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] + below[i] * (1 - top[3])).concat(1);
    const luminance = colour => {
      const [r, g, b] = colour.map(v => (v / 255 <= .04045 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4));
      return .2126 * r + .7152 * g + .0722 * b;
    };
    const ratio = (one, other) => {
      const [high, low] = [luminance(one), luminance(other)].sort((a, b) => b - a);
      return (high + .05) / (low + .05);
    };
    // Everything that may lie behind a text: the nearest opaque colour, and each stop of a gradient before it.
    const behind = element => {
      const stops = [];
      for (let at = element; at; at = at.parentElement) {
        const style = getComputedStyle(at);
        stops.push(...parse(style.backgroundImage));
        const [colour] = parse(style.backgroundColor);
        if (colour && colour[3] === 1) return [colour, ...stops.map(stop => over(stop, colour))];
      }
      return [parse(getComputedStyle(document.documentElement).backgroundColor)[0] || [255, 255, 255, 1], ...stops];
    };
    const problems = [];
    const hold = (element, style, text) => {
      const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
      for (const ground of behind(element)) {
        const found = ratio(over(parse(style.color)[0], ground), ground);
        if (found < (large ? 3 : 4.5)) problems.push(`${found.toFixed(2)}: ${text.trim().slice(0, 40)}`);
      }
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      if (!walker.currentNode.textContent.trim() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
      if (!element.checkVisibility()) continue;
      audits.texts += 1;
      hold(element, getComputedStyle(element), walker.currentNode.textContent);
    }
    for (const element of document.querySelectorAll("td, th")) {
      const style = getComputedStyle(element, "::before");
      if (element.checkVisibility() && !["none", "normal"].includes(style.content)) hold(element, style, style.content);
    }
    return problems;
  },
  headings() {
    const levels = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].map(head => Number(head.tagName[1]));
    const problems = levels.filter(level => level === 1).length === 1 ? [] : ["not exactly one h1"];
    levels.forEach((level, i) => {
      if (level > (levels[i - 1] ?? 0) + 1) problems.push(`h${level} after h${levels[i - 1] ?? 0}`);
    });
    return problems;
  },
  document() {
    const problems = document.documentElement.lang ? [] : ["no lang"];
    if (!document.title) problems.push("no title");
    for (const landmark of ["header", "main", "nav"])
      if (document.querySelectorAll(`body ${landmark}`).length !== 1) problems.push(`not one ${landmark}`);
    const outside = [...document.body.children].filter(at => !["HEADER", "MAIN", "SCRIPT"].includes(at.tagName));
    if (outside.length) problems.push(`outside of landmarks: ${outside[0].tagName}`);
    if (/user-scalable=no|maximum-scale/.test(document.querySelector("meta[name=viewport]")?.content ?? "user-scalable=no"))
      problems.push("cannot be enlarged");
    const ids = [...document.querySelectorAll("[id]")].map(at => at.id);
    return problems.concat(ids.filter((id, i) => ids.indexOf(id) !== i).map(id => `twice: ${id}`));
  },
  targets() {
    return [...document.querySelectorAll("a, summary, button, input")].filter(at => at.checkVisibility()).flatMap(at => {
      const {width, height} = at.getBoundingClientRect();
      return width >= 24 && height >= 24 ? [] : [`${width.toFixed(0)} x ${height.toFixed(0)}: ${at.textContent}`];
    });
  },
  focus() {
    return [...document.querySelectorAll("a, summary, button, input, [tabindex]")].filter(at => at.checkVisibility())
      .flatMap(at => {
        at.focus({focusVisible: true});
        const style = getComputedStyle(at);
        if (document.activeElement !== at || at.tabIndex < 0) return [`no keyboard reaches ${at.tagName} ${at.textContent}`];
        const drawn = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
        return drawn ? [] : [`focus is not seen on ${at.tagName} ${at.textContent}`];
      });
  },
  reach() {
    return [...document.querySelectorAll("body *")].filter(at => at.checkVisibility()).flatMap(at => {
      const scrolls = ["auto", "scroll"];
      const style = getComputedStyle(at);
      const hidden = (at.scrollWidth > at.clientWidth + 1 && scrolls.includes(style.overflowX))
        || (at.scrollHeight > at.clientHeight + 1 && scrolls.includes(style.overflowY));
      return hidden && at.tabIndex < 0 ? [`no keyboard scrolls ${at.tagName}`] : [];
    });
  },
  width() {
    const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    return wide > 0 ? [`${wide} px to the right`] : [];
  },
  cuts() {
    return [...document.querySelectorAll("body *")].filter(at => at.checkVisibility()).flatMap(at => {
      const style = getComputedStyle(at);
      const cut = ["hidden", "clip"].includes(style.overflowX) && at.scrollWidth > at.clientWidth + 1 && at.textContent.trim();
      return cut || style.textOverflow === "ellipsis" ? [`cut: ${at.textContent}`] : [];
    });
  },
  labels() {
    const text = at => (at?.textContent ?? "").trim();
    const problems = [...document.querySelectorAll("dt")].flatMap(term => {
      const told = term.nextElementSibling;
      return text(term) && told?.tagName === "DD" && text(told) ? [] : [`a label of nothing: ${text(term)}`];
    });
    for (const head of document.querySelectorAll("th")) if (!text(head)) problems.push("a header without a name");
    // Where rows and columns have the same names, which is which must be said: above the columns, or in every row.
    const named = at => [...at.childNodes].filter(part => part.nodeType === 3).map(text).join("");
    for (const table of document.querySelectorAll("table")) {
      const columns = new Set([...table.querySelectorAll("thead th[scope=col]")].slice(1).map(text));
      const rows = [...table.querySelectorAll("tbody th[scope=row]")].filter(row => columns.has(named(row)));
      if (!rows.length) continue;
      if (table.querySelector("thead").checkVisibility()) {
        if (!text(table.querySelector("th[scope=colgroup]"))) problems.push("columns named as rows, and nothing says what");
        continue;
      }
      for (const row of rows) {
        const what = row.firstChild;  // before the name: what stands after it may be anything
        if (what?.nodeType !== 1 || !what.checkVisibility() || !text(what) || text(what) === text(row)) problems.push(`what is ${text(row)}?`);
        for (const cell of row.parentElement.querySelectorAll("td"))
          if (columns.has(cell.dataset.title)) problems.push(`what of ${named(row)} is ${cell.dataset.title}?`);
      }
    }
    return problems;
  },
  overlaps() {
    return [...document.querySelectorAll(".axis .track, .ylabels, .xlabels")].flatMap(axis => {
      const boxes = [...axis.children].filter(at => at.checkVisibility()).map(at => at.getBoundingClientRect());
      const lie = (one, other) => one.left < other.right && other.left < one.right
        && one.top + 2 < other.bottom && other.top + 2 < one.bottom;
      return boxes.some((one, i) => boxes.slice(i + 1).some(other => lie(one, other))) ? [axis.textContent] : [];
    });
  },
  texts: 0,
};
for (const details of document.querySelectorAll("details")) details.open = true;
const found = {};
for (const [name, audit] of Object.entries(audits)) if (typeof audit === "function") found[name] = audit();
return {problems: found, texts: audits.texts};
