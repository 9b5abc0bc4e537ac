"use strict";
// What is shown is what the module says; this script asks, draws and sets out.
(async () => {
  const $ = (id) => document.getElementById(id);

  // ---- The module.

  // In base64, packed by gzip.
  const unpacked = async () => {
    const bytes = Uint8Array.from(atob($("module").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return WebAssembly.compile(await new Response(stream).arrayBuffer());
  };
  let compiled = null;
  try {
    compiled = await unpacked();
  } catch (failure) {
    $("format-error").textContent = `This browser cannot run the page's WebAssembly: ${failure.message}`;
    return;
  }
  let module = null;
  // A request is lines of text, a reply an object; one that cannot be answered has `error`.
  const ask = (...lines) => {
    const text = lines.map((line) => String(line).replace(/\n/g, " ")).join("\n");
    const request = new TextEncoder().encode(text);
    try {
      module = module || new WebAssembly.Instance(compiled, {}).exports;
      const place = module.reserve(request.length);
      new Uint8Array(module.memory.buffer, place, request.length).set(request);
      const length = module.reply();
      const reply = new Uint8Array(module.memory.buffer, module.reply_place(), length);
      return JSON.parse(new TextDecoder().decode(reply));
    } catch (failure) {
      module = null;
      return { error: `this cannot be answered here: ${failure.message}` };
    }
  };

  // ---- Elements.

  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const drawn = (name, attributes = {}, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const table = (place, headings, rows) => {
    const head = element("tr", {}, ...headings.map((text) => element("th", { scope: "col" }, text)));
    const body = rows.map((cells) => element("tr", {}, ...cells.map((cell) =>
      cell instanceof Node ? element("td", {}, cell) : element("td", {}, String(cell)))));
    place.replaceChildren(element("thead", {}, head), element("tbody", {}, ...body));
  };
  const complain = (input, place, error) => {
    input.setAttribute("aria-invalid", error ? "true" : "false");
    const text = error || "";
    place.textContent = text.length > 400 ? `${text.slice(0, 200)} \u2026 ${text.slice(-180)}` : text;
  };

  // ---- Texts.

  const digits = (value) => typeof value === "number" ? String(value).replace("-", "\u2212")
    : String(value).replace("-", "\u2212").replace("inf", "\u221e").replace("nan", "NaN");
  const orNone = (value) => value === null || value === undefined ? "none" : digits(value);
  const grouped = (count) => String(count).replace(/\B(?=(\d{3})+$)/g, "\u202f");
  const colour = {
    sign: "f0", flag: "f0", exponent: "f1", regime: "f3", "whole part": "f1", index: "f1", magnitude: "f1",
    code: "f1", number: "f1", mantissa: "f2", fraction: "f2", "fractional part": "f2",
  };
  const code = (fields) => {
    const parts = fields.map(([name, text], i) => {
      const point = name === "fractional part" && i > 0 ? ["."] : [];
      return [...point, element("span", { class: colour[name] || "f1", title: name }, text)];
    });
    return element("span", { class: "code" }, ...parts.flat());
  };
  const legend = (lists) => {
    const names = [...new Set(lists.flat().map(([name]) => name))];
    return names.map((name) => element("span", { class: colour[name] || "f1" }, name));
  };
  const facts = (reply) => {
    const { facts: f } = reply;
    const specials = [[f.infinity, "infinity"], [f.nan, "NaN"], [f.minus_zero, "\u22120"]];
    const held = specials.filter(([is]) => is).map(([, name]) => name).join(", ");
    const range = f.range_decades === null ? "none"
      : `${f.range_decades.toFixed(2)} decades, ${f.range_bits.toFixed(2)} bits`;
    const subnormal = f.min_normal !== null && f.min_positive !== null && f.min_positive < f.min_normal;
    return [
      ["bits", f.bits], ["smallest", digits(f.min)], ["largest", digits(f.max)],
      ["smallest positive", orNone(f.min_positive)], ["smallest normal", orNone(f.min_normal)],
      ["smallest subnormal", subnormal ? digits(f.min_positive) : "none"],
      ["epsilon (step above 1)", orNone(f.epsilon)], ["dynamic range", range],
      ["distinct values", grouped(f.values)], ["besides numbers", held || "none"],
    ];
  };

  // ---- The number line.

  const WIDTH = 960;
  let described = null;
  const axisOf = () => document.querySelector("input[name=axis]:checked").value;
  const frame = (height, label) => drawn("svg", { viewBox: `0 0 ${width()} ${height}`, role: "img", "aria-label": label });
  // A picture has as many units as the page has pixels there, so that its letters stay as large on a phone.
  const width = () => Math.max(300, Math.min(WIDTH, $("line").clientWidth || WIDTH));
  // Round numbers on an axis: steps of 1, 2 or 5 times a power of ten.
  const ticks = (low, high, count) => {
    const raw = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= raw);
    const found = [];
    for (let k = Math.ceil(low / step); k * step <= high * (1 + 1e-9); k++) found.push(Number((k * step).toPrecision(12)));
    return found;
  };
  const named = (value) => {
    const size = Math.abs(value);
    const text = size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential() : String(value);
    return text.replace("-", "\u2212").replace("e+", "e").replace("e-", "e\u2212");
  };
  // Where a value lies from left to right, from 0 to 1; of a logarithmic axis only magnitudes above `least`.
  const scaleOf = ({ facts: f }) => {
    const zoom = Number($("zoom").value);
    // A table of zero alone reaches nowhere.
    const reach = Math.max(Math.abs(f.min), Math.abs(f.max)) || 1;
    const least = f.min_positive || reach / 2;
    const signed = f.min < 0;
    if (axisOf() === "log") {
      const [low, high] = [Math.log2(least), Math.max(Math.log2(reach), Math.log2(least) + 1e-6)];
      const half = (value) => 0.03 + 0.97 * (Math.log2(value) - low) / (high - low);
      const at = (value) => {
        const size = value === 0 ? 0 : half(Math.abs(value));
        return signed ? 0.5 + Math.sign(value) * size / 2 : size;
      };
      const step = Math.max(1, Math.ceil((high - low) / (signed ? 6 : 12)));
      const marks = [[0, "0"]];
      for (let k = Math.ceil(low / step) * step; k <= high; k += step) {
        marks.push([2 ** k, `2^${k}`]);
        if (signed) marks.push([-(2 ** k), `\u22122^${k}`]);
      }
      return { at, marks, within: () => true };
    }
    const ratio = Math.max(reach / least / 8, 1);
    const limit = reach / ratio ** zoom;
    const low = signed ? -limit : 0;
    const at = (value) => (value - low) / (limit - low);
    const marks = ticks(low, limit, width() < 500 ? 5 : 9).map((value) => [value, named(value)]);
    return { at, marks, within: (value) => value >= low && value <= limit };
  };
  const label = (text) => {
    const [base, power] = text.split("^");
    if (power === undefined) return [text];
    return [base, drawn("tspan", { dy: "-5", "font-size": "9" }, power.replace("-", "\u2212"))];
  };
  let shown = null;
  const drawLine = () => {
    $("zoom-label").hidden = axisOf() === "log";
    if (!described) return;
    const [w, left, top, bottom] = [width(), 14, 8, 62];
    const across = w - 2 * left;
    const scale = scaleOf(described);
    const x = (value) => left + across * scale.at(value);
    const what = `Values of ${described.format} on a ${axisOf() === "log" ? "logarithmic" : "linear"} axis`;
    const svg = frame(92, what);
    svg.append(drawn("path", { class: "axis", d: `M${left} ${(top + bottom) / 2}H${left + across}` }));
    for (const [value, text] of scale.marks) {
      svg.append(drawn("path", { class: "axis", d: `M${x(value).toFixed(1)} ${top}V${bottom + 4}` }));
      const anchor = x(value) < 30 ? "start" : x(value) > w - 30 ? "end" : "middle";
      const place = { x: anchor === "start" ? 2 : anchor === "end" ? w - 2 : x(value).toFixed(1), y: bottom + 22, "text-anchor": anchor };
      svg.append(drawn("text", place, ...label(text)));
    }
    shown = null;
    if (described.values) {
      shown = described.values.filter(scale.within);
      let [path, last] = ["", -1];
      for (const value of shown) {
        const at = x(value);
        if (at - last < 0.3) continue;
        path += `M${at.toFixed(1)} ${top + 6}V${bottom - 6}`;
        last = at;
      }
      svg.append(drawn("path", { class: "first", "stroke-width": shown.length > 300 ? 0.8 : 1.6, d: path }));
    } else {
      const f = described.facts;
      const ends = [f.min, f.max].map((end) => Math.min(Math.max(x(end), left), left + across));
      svg.append(drawn("rect", { class: "band", x: ends[0], y: top + 6, width: ends[1] - ends[0], height: bottom - top - 12 }));
    }
    const pin = drawn("path", { class: "pin", d: "" });
    svg.append(pin);
    $("line").replaceChildren(svg);
    $("line").tabIndex = shown && shown.length ? 0 : -1;
    $("line").setAttribute("aria-label", `${what}; arrows go from value to value`);
    pointed = { x, pin, top, bottom, index: null };
    $("pointed").textContent = shown ? `${grouped(shown.length)} finite ${shown.length === 1 ? "value" : "values"} here; point at one, or use the arrow keys`
      : "more values than can be drawn one by one";
  };
  let pointed = null;
  const point = (index) => {
    if (!shown || !shown.length) return;
    pointed.index = Math.min(Math.max(index, 0), shown.length - 1);
    const value = shown[pointed.index];
    pointed.pin.setAttribute("d", `M${pointed.x(value).toFixed(1)} ${pointed.top}V${pointed.bottom}`);
    const [before, after] = [shown[pointed.index - 1], shown[pointed.index + 1]];
    const beside = [before, after].map((other) => other === undefined ? "\u2013" : digits(other));
    $("pointed").textContent = `${digits(value)} between ${beside[0]} and ${beside[1]}`;
  };
  const nearest = (place) => {
    let best = 0;
    shown.forEach((value, i) => {
      if (Math.abs(pointed.x(value) - place) < Math.abs(pointed.x(shown[best]) - place)) best = i;
    });
    return best;
  };
  $("line").addEventListener("pointermove", (event) => {
    if (!shown || !shown.length) return;
    const box = $("line").firstChild.getBoundingClientRect();
    point(nearest((event.clientX - box.left) * width() / box.width));
  });
  $("line").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -16, PageDown: 16 }[event.key];
    if (!shown || !shown.length || (!step && event.key !== "Home" && event.key !== "End")) return;
    event.preventDefault();
    const from = pointed.index === null ? Math.floor(shown.length / 2) - (step || 0) : pointed.index;
    point(event.key === "Home" ? 0 : event.key === "End" ? shown.length - 1 : from + step);
  });

  // ---- Rounding.

  const mode = () => {
    const name = $("rounding").value;
    document.querySelector("#round .row").classList.toggle("drawn", name === "stochastic");
    return name === "stochastic" ? `stochastic(seed=${$("seed").value.trim()},bits=${$("bits").value.trim()})` : name;
  };
  const round = () => {
    const rounding = mode();
    if (!described) return;
    const reply = ask("round", described.format, rounding, $("numbers").value);
    const wrong = reply.error && /rounding|stochastic/.test(reply.error.split(":")[0]);
    complain($("numbers"), $("round-error"), reply.error);
    if (wrong) $("numbers").setAttribute("aria-invalid", "false");
    for (const id of ["rounded", "modes"]) $(id).classList.toggle("stale", Boolean(reply.error));
    if (reply.error) return;
    const error = ({ error_ulp: ulp, input }) => ulp !== null ? (ulp === 0 ? "0" : (ulp > 0 ? "+" : "\u2212") + Math.abs(ulp).toFixed(4))
      : input === "nan" ? "\u2013" : "out of range";
    $("fields").replaceChildren(...legend(reply.numbers.map((n) => n.fields)));
    table($("rounded"), ["number", "becomes", "code", "hex", "error in steps"],
      reply.numbers.map((n) => [n.typed, digits(n.value), code(n.fields), n.hex, error(n)]));
    table($("modes"), ["rounding", ...reply.numbers.map((n) => n.typed)],
      reply.modes.map((m) => [m.rounding, ...m.values.map(digits)]));
  };

  // ---- Two formats.

  const LEAST = -8;
  const drawErrors = () => {
    if (!described) return;
    const w = width();
    const [left, top, bottom] = [58, 12, 240];
    const across = w - left - 14;
    const reply = ask("compare", Math.round(across), described.format, $("other").value);
    complain($("other"), $("compare-error"), reply.error);
    for (const id of ["errors", "both"]) $(id).classList.toggle("stale", Boolean(reply.error));
    if (reply.error) return;
    const { low, high, curves } = reply;
    const positive = curves.flatMap((c) => c.errors).filter((e) => e > 0);
    const floor = Math.max(LEAST, Math.min(-1, Math.floor(Math.log10(Math.min(1, ...positive)))));
    const x = (power) => left + across * (power - low) / (high - low);
    const y = (decades) => top + (bottom - top) * Math.min(Math.max(decades, floor), 0) / floor;
    const names = curves.map((c) => c.format).join(" and ");
    const svg = frame(310, `Largest relative error of rounding to nearest over magnitude: ${names}`);
    for (let decade = floor; decade <= 0; decade++) {
      svg.append(drawn("path", { class: "axis", d: `M${left} ${y(decade).toFixed(1)}H${left + across}` }));
      const text = decade >= -5 ? `${named(Number((10 ** (decade + 2)).toPrecision(3)))} %` : `10^${decade}`;
      svg.append(drawn("text", { x: left - 8, y: y(decade) + 4, "text-anchor": "end" }, ...label(text)));
    }
    const step = Math.max(1, Math.ceil((high - low) / (w < 500 ? 5 : 12)));
    for (let power = Math.ceil(low / step) * step; power <= high; power += step) {
      svg.append(drawn("path", { class: "axis", d: `M${x(power).toFixed(1)} ${top}V${bottom}` }));
      svg.append(drawn("text", { x: x(power).toFixed(1), y: bottom + 20, "text-anchor": "middle" }, ...label(`2^${power}`)));
    }
    svg.append(drawn("text", { x: left + across / 2, y: bottom + 40, "text-anchor": "middle" }, "magnitude"));
    curves.forEach((curve, i) => {
      const kind = ["first", "second"][i];
      let [path, lifted] = ["", true];
      curve.errors.forEach((error, column) => {
        if (error !== null) path += `${lifted ? "M" : "L"}${(left + column + 0.5).toFixed(1)} ${y(error > 0 ? Math.log10(error) : floor).toFixed(1)}`;
        lifted = error === null;
      });
      svg.append(drawn("path", { class: kind, "stroke-width": 1.8, d: path }));
      svg.append(drawn("text", { class: kind, x: left + i * across / 2, y: bottom + 62 }, `\u2014 ${curve.format}`));
    });
    $("errors").replaceChildren(svg,
      element("figcaption", { class: "note" }, "The largest relative error of rounding to nearest between two neighbours, over magnitude."));
    const columns = curves.map(facts);
    table($("both"), ["", ...curves.map((c) => c.format)],
      columns[0].map(([name], row) => [name, ...columns.map((column) => column[row][1])]));
  };

  // ---- Codes.

  const listCodes = () => {
    const listed = described && described.codes.length > 0;
    $("codes-row").hidden = !listed;
    $("all-codes").parentElement.hidden = !listed;
    $("codes-note").textContent = !described || listed ? "" : `Formats of more than 8 bits have too many codes to list; ${described.format} has ${described.facts.bits} bits.`;
    if (!listed) return;
    const wanted = $("filter").value.trim().toLowerCase();
    const by = document.querySelector("input[name=order]:checked").value;
    const codes = by === "code" ? [...described.codes].sort((a, b) => a.code - b.code) : described.codes;
    const rows = codes.map((c) => [c.hex, code(c.fields), digits(c.value), c]);
    const holds = ([hex, , value, c]) => `${hex} ${c.bits} ${value} ${c.value}`.toLowerCase().includes(wanted);
    table($("all-codes"), ["hex", "code", "value"], rows.filter(holds).map((row) => row.slice(0, 3)));
  };

  // ---- The whole.

  const describe = () => {
    const text = $("format").value;
    const reply = ask("describe", text);
    complain($("format"), $("format-error"), reply.error);
    $("facts-list").classList.toggle("stale", Boolean(reply.error));
    for (const id of ["values", "round", "compare", "codes"]) $(id).classList.toggle("stale", Boolean(reply.error));
    if (reply.error) return;
    described = reply;
    const shares = reply.shares ? `The numbers that share a scale: ${reply.shares}. Facts, values and codes are those of an element at a scale of one.` : "";
    $("note").textContent = [reply.note || "", shares].filter(Boolean).join(" ");
    const subnormals = reply.subnormals === null ? [] : [["subnormal magnitudes", grouped(reply.subnormals)]];
    const all = [["format", reply.format], ...facts(reply), ...subnormals];
    $("facts-list").replaceChildren(...all.map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, String(value)))));
    drawLine();
    round();
    drawErrors();
    listCodes();
    remember();
  };
  const KEPT = ["format", "other", "numbers", "rounding", "seed", "bits"];
  const remember = () => {
    const kept = new URLSearchParams(KEPT.map((id) => [id, $(id).value]));
    history.replaceState(null, "", `#?${kept}`);
  };
  const recall = () => {
    if (!location.hash.startsWith("#?")) return;
    const kept = new URLSearchParams(location.hash.slice(2));
    for (const id of KEPT) if (kept.has(id)) $(id).value = kept.get(id);
  };

  const choices = ask("choices");
  if (choices.error) {
    complain($("format"), $("format-error"), choices.error);
    return;
  }
  $("formats").replaceChildren(...choices.formats.map((text) => element("option", { value: text })));
  $("rounding").replaceChildren(...[...choices.roundings, "stochastic"].map((name) => element("option", { value: name }, name)));
  for (const text of ["e4m3", "e5m2", "fp16", "bf16", "fixed(8,4)", "int8", "posit(8,1)", "p3109(8,4)", "lns(4,3)", "pot(4)", "nf4", "mxfp4", "nvfp4", "bfp(8)"]) {
    if (ask("describe", text).error) continue;
    const button = element("button", { type: "button" }, text);
    button.addEventListener("click", () => { $("format").value = text; describe(); });
    $("examples").append(button);
  }
  recall();
  const later = (work) => () => { work(); remember(); };
  $("format").addEventListener("input", describe);
  $("other").addEventListener("input", later(drawErrors));
  for (const id of ["numbers", "rounding", "seed", "bits"]) $(id).addEventListener("input", later(round));
  $("filter").addEventListener("input", listCodes);
  $("zoom").addEventListener("input", drawLine);
  for (const radio of document.querySelectorAll("input[name=axis]")) radio.addEventListener("change", drawLine);
  for (const radio of document.querySelectorAll("input[name=order]")) radio.addEventListener("change", listCodes);
  let seen = width();
  addEventListener("resize", () => {
    if (width() === seen) return;
    seen = width();
    drawLine();
    drawErrors();
  });
  describe();
})();
