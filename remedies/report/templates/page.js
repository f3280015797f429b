"use strict";
(() => {
  const text = (node) => node.textContent.toLowerCase();

  for (const form of document.querySelectorAll("form.tools")) {
    const items = [...document.querySelectorAll(form.dataset.items)];
    const words = form.elements.namedItem("words");
    const outcome = form.elements.namedItem("outcome");
    const said = form.querySelector("output");
    const filter = () => {
      const wanted = words.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const item of items) {
        const matches = (!outcome || !outcome.value || item.dataset.outcome.split(" ").includes(outcome.value))
          && (!wanted.length || wanted.every((word) => text(item).includes(word)));
        item.hidden = !matches;
        shown += matches ? 1 : 0;
      }
      for (const group of document.querySelectorAll(".group")) {
        const inside = group.querySelectorAll("[data-outcome]");
        group.hidden = inside.length > 0 && [...inside].every((item) => item.hidden);
      }
      said.textContent = `${shown} of ${items.length} shown`;
    };
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    filter();
  }

  const heads = [];
  const order = new Intl.Collator(undefined, { numeric: true });
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell ? cell.dataset.order || cell.textContent.trim() : "";
  };
  for (const table of document.querySelectorAll("table.sorted")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      heads.push([head, button]);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const keyed = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
        keyed.sort(([a], [b]) => (up ? order.compare(a, b) : order.compare(b, a)));
        table.tBodies[0].append(...keyed.map(([, row]) => row));
      });
    });
  }

  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
    // A heading that is repeated on every page is painted without the buttons in it.
    for (const [head, button] of heads) head.replaceChildren(...button.childNodes);
  });
  addEventListener("afterprint", () => {
    for (const [head, button] of heads) {
      button.append(...head.childNodes);
      head.append(button);
    }
  });
})();
