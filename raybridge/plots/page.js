// Sorts tables by the column that is clicked, and opens figures large. Without it the page is whole.
"use strict";

function valueOf(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = /^[+\u2212-]?[\d,]*\.?\d+(?:e[+-]?\d+)?/i.exec(text);
  return { text, missing: text === "" || text === "–", number: number && Number(number[0].replace("\u2212", "-").replaceAll(",", "")) };
}

function sort(table, column, down) {
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, value: valueOf(row, column) }));
  const numeric = rows.every(({ value }) => value.missing || value.number !== null);
  rows.sort(({ value: a }, { value: b }) => {
    if (a.missing || b.missing) return a.missing - b.missing; // what is missing stands last in both directions
    const order = numeric ? a.number - b.number : a.text.localeCompare(b.text, undefined, { numeric: true });
    return down ? -order : order;
  });
  table.tBodies[0].append(...rows.map(({ row }) => row));
}

for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sort(table, column, down);
    });
  });
}

const large = document.createElement("dialog");
large.addEventListener("click", () => large.close());
document.body.append(large);
for (const image of document.querySelectorAll("figure img")) {
  const open = () => {
    large.replaceChildren(image.cloneNode());
    large.showModal();
  };
  image.tabIndex = 0;
  image.setAttribute("role", "button");
  image.addEventListener("click", open);
  image.addEventListener("keydown", (event) => {
    if (event.key === "Enter") open();
  });
}
