/*<![CDATA[*/
"use strict";
(() => {
  // Buttons that show only the drills of one verdict. Without this script, all are shown.
  const drills = document.querySelector("#drills");
  const rows = [...document.querySelectorAll("table.drills tbody tr")];
  const articles = [...document.querySelectorAll("article.drill")];
  const of = (row) => row.querySelector(".badge").textContent;
  const verdicts = [...new Set(rows.map(of))];
  if (verdicts.length < 2) return;
  const bar = document.createElement("p");
  bar.className = "filter";
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", "Show drills by verdict");
  const choose = (wanted) => {
    for (const button of bar.children) button.setAttribute("aria-pressed", String(button.value === wanted));
    for (const row of rows) row.hidden = wanted !== "" && of(row) !== wanted;
    for (const each of articles) each.hidden = wanted !== "" && each.dataset.verdict !== wanted;
  };
  for (const each of ["", ...verdicts]) {
    const button = document.createElement("button");
    button.type = "button";
    button.value = each;
    button.textContent = `${each || "all"} ${rows.filter((row) => each === "" || of(row) === each).length}`;
    button.addEventListener("click", () => choose(each));
    bar.append(button);
  }
  drills.after(bar);
  choose("");
  // A link to a drill that is filtered away shows all again; so does printing.
  addEventListener("hashchange", () => choose(""));
  addEventListener("beforeprint", () => choose(""));
})();
/*]]>*/
