// Elements of results: photos whose regions can be shown, the cards of hits, and the words of a sentence.

const MAX_SPOKEN = 3;
const UNKNOWN = "not in the model's vocabulary";

// Returns an element with properties and children. Text is never parsed as HTML.
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// A photo of `width` x `height` pixels, in which boxes are given, and its explanation.
export class Frame {
  constructor(description) {
    this.description = description;
    this.explanation = null;
    this.node = element("div", { className: "frame waiting" });
  }

  // Shows an image by its URL; without the size of the original, that of the image is taken.
  async show(url, width = 0, height = 0) {
    const image = element("img", { src: url, alt: this.description });
    await image.decode();
    [this.width, this.height] = [width || image.naturalWidth, height || image.naturalHeight];
    this.node.classList.remove("waiting");
    this.node.replaceChildren(image);
  }

  showProblem(message) {
    this.node.classList.remove("waiting");
    this.node.replaceChildren(element("p", { textContent: `${this.description}: ${message}` }));
  }

  // Marks the region of the n-th word, and returns the word, or undefined before it is known.
  mark(n) {
    this.clear();
    const word = this.explanation?.words[n];
    if (word?.box && this.width) {
      const [x0, y0, x1, y1] = word.box;
      const label = element("span", { textContent: `${word.word} ${word.weight.toFixed(2)}` });
      const sides = [y0 < this.height / 8 ? "below" : "above", x0 > this.width / 2 ? "left" : "right"];
      const region = element("div", { className: `region ${sides.join(" ")}` }, label);
      const percent = (part, all) => `${(100 * part) / all}%`;
      region.style.left = percent(x0, this.width);
      region.style.top = percent(y0, this.height);
      region.style.width = percent(x1 - x0, this.width);
      region.style.height = percent(y1 - y0, this.height);
      this.node.append(region);
    }
    return word;
  }

  clear() {
    this.node.querySelector(".region")?.remove();
  }
}

// Returns the scores of SHAN's levels as a list; their sum is the score.
export function levels(explanation) {
  const rows = Object.entries(explanation.levels).flatMap(([name, score]) => [
    element("dt", { textContent: name.startsWith("S_") ? name : `S_${name}` }),
    element("dd", { textContent: score.toFixed(3) }),
  ]);
  return element("dl", { className: "levels" }, ...rows);
}

// Returns the card of a photo that a sentence found.
export function photoCard(hit, frame) {
  const line = element("div", {}, `${hit.rank}. score ${hit.score.toFixed(3)} `);
  if (hit.is_match) line.append(element("span", { className: "match", textContent: "caption matches" }));
  const source = element("small", { textContent: `${hit.captions[0] ?? ""} (${hit.source})` });
  return element("li", {}, element("figure", {}, frame.node, element("figcaption", {}, line, source)));
}

// Returns the card of a caption that a photo found; `explain` is called by its button.
export function captionCard(hit, explain) {
  const button = element("button", { type: "button", textContent: "Explain" });
  const text = element("div", { textContent: `${hit.rank}. ${hit.captions[0]}` });
  button.setAttribute("aria-label", `Explain: ${hit.captions[0]}`);
  const card = element("li", {}, text, element("div", {}, `score ${hit.score.toFixed(3)} `, button));
  button.addEventListener("click", () => explain(card));
  return card;
}

// Fills `node` with the words as buttons. One that is pointed at or has the focus marks its region in all frames, and
// `spoken` gets the weights as text. Words that the model does not know are marked.
export class Words {
  constructor(node, spoken) {
    [this.node, this.spoken, this.frames, this.active] = [node, spoken, [], null];
  }

  show(words, frames) {
    this.frames = frames;
    this.active = null;
    this.node.replaceChildren(...words.map((word, n) => this.button(word, n)));
  }

  button(word, n) {
    const mark = word.known ? {} : { className: "unknown", title: UNKNOWN };
    const button = element("button", { type: "button", textContent: word.word, ...mark });
    for (const event of ["pointerenter", "focus", "click"]) button.addEventListener(event, () => this.mark(n));
    for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => this.clear());
    return button;
  }

  mark(n) {
    this.active = n;
    const found = this.frames.map((frame) => frame.mark(n)).filter(Boolean);
    const weights = found.slice(0, MAX_SPOKEN).map((word) => `region ${word.region}, weight ${word.weight.toFixed(2)}`);
    const boxes = found.some((word) => word.box) ? "" : " (the index has no boxes)";
    const unknown = found.every((word) => word.known) ? "" : ` (${UNKNOWN})`;
    this.spoken.textContent = found.length ? `${found[0].word}${unknown}: ${weights.join("; ")}${boxes}` : "";
  }

  // Marks the regions of the active word again, because a frame has become complete.
  update() {
    if (this.active !== null) this.mark(this.active);
  }

  clear() {
    this.active = null;
    for (const frame of this.frames) frame.clear();
  }
}
