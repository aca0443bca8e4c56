package browser

import "strings"

// Faults says what is wrong with how the page looks: text that can hardly be
// read, a page wider than the screen, fields without a name.
func (p *Page) Faults() []string {
	p.t.Helper()
	return strings.FieldsFunc(p.Text(faults), func(r rune) bool { return r == '\n' })
}

// faults compares colours as the W3C's guidelines for accessibility do: text
// needs a contrast of 4.5, the border of a field one of 3.
const faults = `(() => {
  const found = [];
  const numbers = (c) => c.match(/[\d.]+/g).map(Number);
  const light = (c) => {
    const [r, g, b] = numbers(c).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((m, n) => n - m);
    return (x + 0.05) / (y + 0.05);
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (numbers(c)[3] !== 0) return c;
    }
    return "rgb(255, 255, 255)";
  };
  const need = (what, a, b, least) => {
    const is = contrast(a, b);
    if (is < least) found.push(what + " has a contrast of " + is.toFixed(2) + ", not " + least);
  };
  for (const e of document.body.querySelectorAll("*")) {
    const style = getComputedStyle(e);
    if ([...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) {
      need(e.localName + " " + e.className, style.color, behind(e), 4.5);
    }
    if (e.matches("input:not([type=hidden])")) {
      need(e.localName, style.color, behind(e), 4.5);
      need("the border of " + e.localName, style.borderTopColor, behind(e.parentElement), 3);
      if (!e.labels.length) found.push("a field has no label");
    }
    const box = e.getBoundingClientRect();
    if (box.right > innerWidth + 0.5 || box.left < -0.5) found.push(e.localName + " is outside of the screen");
  }
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) found.push("the page is " + page.scrollWidth + " wide on a screen of " + page.clientWidth);
  if (!page.lang) found.push("the page has no language");
  if (!document.title) found.push("the page has no title");
  if (document.querySelectorAll("h1").length !== 1) found.push("the page has not one heading");
  return found.join("\n");
})()`
