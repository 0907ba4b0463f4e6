// Draws the plots of a page from the reports that are embedded in it. Text of a report gets into
// the page by textContent and setAttribute only.
(() => {
  'use strict';

  const reports = JSON.parse(document.getElementById('reports').textContent);
  const SVG = 'http://www.w3.org/2000/svg';
  const HEIGHT = 250;
  const MARGIN = { top: 24, right: 14, bottom: 28, left: 58 };
  // What the figures are taken from; all else stands in the shade.
  const MEASURED = new RegExp('^(measuring|holding|talking|returning|logging in and out|' +
    'coming and going|storing messages|fetching messages)$');
  const charts = [];

  function element(namespace, tag, attributes, children) {
    const made = namespace
      ? document.createElementNS(namespace, tag)
      : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      made.setAttribute(name, value);
    }
    for (const child of children || []) made.append(child);
    return made;
  }
  const html = (tag, attributes, ...children) => element(null, tag, attributes, children);
  const svg = (tag, attributes, ...children) => element(SVG, tag, attributes, children);

  // Numbers with their units.

  const LADDERS = {
    time: [[1e9, 's'], [1e6, 'ms'], [1e3, 'µs'], [1, 'ns']],
    bytes: [[1e12, 'TB'], [1e9, 'GB'], [1e6, 'MB'], [1e3, 'KB'], [1, 'B']],
    count: [[1e9, 'G'], [1e6, 'M'], [1e3, 'k'], [1, '']],
  };

  function laddered(value, ladder) {
    if (value === 0) return '0';
    const rounded = Number(Math.abs(value).toPrecision(3));
    const [size, unit] = ladder.find(([step]) => rounded >= step) || ladder[ladder.length - 1];
    const number = Number((value / size).toPrecision(3));
    const space = unit && ladder !== LADDERS.count ? '\u202f' : '';
    return `${number}${space}${unit}`.replace('-', '−');
  }

  function tick(value, unit) {
    if (unit === 'percent') return `${Number(value.toPrecision(3))}\u202f%`;
    return laddered(value, LADDERS[unit] || LADDERS.count);
  }

  function reading(value, unit) {
    if (unit === 'percent') return `${value.toFixed(value < 10 ? 1 : 0)}\u202f%`;
    if (unit !== 'count') return laddered(value, LADDERS[unit]);
    const digits = value < 10 && value % 1 ? 1 : 0;
    return value.toLocaleString('en-US', { maximumFractionDigits: digits });
  }

  // Seconds, or minutes and hours where the whole axis is longer than a minute.
  function clock(seconds, longest) {
    const sign = seconds < 0 ? '−' : '';
    const all = Math.abs(seconds);
    if (longest <= 60) return `${sign}${Number(all.toFixed(1))}\u202fs`;
    const whole = Math.round(all);
    const two = (n) => String(n).padStart(2, '0');
    const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
    return sign + (h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`);
  }

  function nines(place) {
    const percent = 100 * (1 - 10 ** -place);
    const digits = Math.max(0, Math.ceil(place - 1e-9) - 2);
    return `${Number(percent.toFixed(Math.max(digits, place < 1 ? 0 : 1)))}\u202f%`;
  }

  // Scales.

  function linear(low, high, most, least) {
    const span = high - low || 1;
    const raw = span / most;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].find((factor) => factor * power >= raw) * power;
    return steps(low, high, Math.max(step, least));
  }

  function steps(low, high, step) {
    const places = [];
    for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1) {
      places.push(Number((n * step).toPrecision(12)));
    }
    return { step, places };
  }

  function seconds(low, high, most) {
    const sizes = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
    const raw = (high - low) / most;
    const step = sizes.find((size) => size >= raw) || Math.ceil(raw / 14400) * 14400;
    return steps(low, high, step).places;
  }

  function logarithmic(low, high) {
    const places = [];
    const decades = Math.log10(high / low);
    let factors = [1];
    if (decades < 0.8) factors = [1, 1.5, 2, 3, 4, 5, 7];
    else if (decades < 1.5) factors = [1, 2, 5];
    else if (decades < 3.3) factors = [1, 3];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      for (const factor of factors) {
        const place = factor * 10 ** power;
        if (place >= low * 0.999 && place <= high * 1.001) places.push(place);
      }
    }
    return places;
  }

  // Half a session is none.
  const leastStep = (spec, most) => (spec.unit === 'count' && most >= 1 ? 1 : 0);

  function vertical(spec) {
    const values = spec.series.flatMap((line) => line.y).filter((value) => value !== null);
    const most = values.reduce((a, b) => Math.max(a, b), 0);
    const least = values.reduce((a, b) => (b > 0 ? Math.min(a, b) : a), Infinity);
    if (spec.log && least < Infinity) {
      // Half a decade at least: a flat line is not to look like a mountain.
      const low = least / 1.15;
      const high = Math.max(most * 1.15, low * 4);
      const [from, to] = [Math.log10(low), Math.log10(high)];
      const scale = (value) => (Math.log10(Math.max(value, low)) - from) / (to - from);
      return { scale, places: logarithmic(low, high) };
    }
    const { step, places } = linear(0, most * 1.04 || 1, 5, leastStep(spec, most));
    const high = Math.max(most * 1.04, places[places.length - 1]) || step;
    return { scale: (value) => value / high, places };
  }

  function horizontal(spec, width) {
    const all = spec.series.flatMap((line) => line.x);
    const low = Math.min(0, all.reduce((a, b) => Math.min(a, b), 0));
    const high = Math.max(all.reduce((a, b) => Math.max(a, b), low), low + 1e-3);
    const scale = (value) => (value - low) / (high - low);
    const back = (share) => low + share * (high - low);
    if (spec.axis === 'nines') {
      const places = [0, Math.log10(2)];
      for (let place = 1; place <= high + 1e-9; place += 1) places.push(place);
      // The half stands close to nothing, and the steps close to each other where it is narrow.
      const room = width / Math.max(high, 1);
      const apart = Math.ceil(62 / room);
      const label = (place) => {
        const half = place > 0 && place < 1;
        return half ? (room > 150 ? nines(place) : '') : place % apart ? '' : nines(place);
      };
      return { low, high, scale, back, places, label };
    }
    return { low, high, scale, back, label: (place) => clock(place, high),
      places: seconds(low, high, Math.max(3, Math.floor(width / 90))) };
  }

  // A line breaks where there is no value, unless its values are rare by design.
  function pieces(line, at) {
    const found = [];
    let piece = [];
    line.x.forEach((x, index) => {
      const y = line.y[index];
      if (y !== null) piece.push(at(x, y));
      else if (!line.rare && piece.length) found.push(piece.splice(0));
    });
    if (piece.length) found.push(piece);
    return found;
  }

  // So many points of a line stand so close to each other that it must be thin.
  const DENSE = 250;

  const fixed = (number) => number.toFixed(1);
  const path = (points) => `M${points.map((point) => point.map(fixed).join(' ')).join('L')}`;

  const roomOf = (chart) => Math.max(240, Math.floor(chart.plot.clientWidth));

  function draw(chart, width) {
    const { spec, plot } = chart;
    chart.width = width;
    const inner = {
      width: width - MARGIN.left - MARGIN.right,
      height: HEIGHT - MARGIN.top - MARGIN.bottom,
    };
    const x = horizontal(spec, inner.width);
    const y = vertical(spec);
    const at = {
      x: (value) => MARGIN.left + x.scale(value) * inner.width,
      y: (value) => MARGIN.top + (1 - y.scale(value)) * inner.height,
    };
    const root = svg('svg', { viewBox: `0 0 ${width} ${HEIGHT}`, role: 'img',
      'aria-label': spec.title });
    drawPhases(root, spec, at, inner);
    drawAxes(root, spec, x, y, at, inner);
    for (const line of spec.series) drawLine(root, line, at, spec.series.length === 1);
    const cross = svg('g', { class: 'cross', visibility: 'hidden' });
    root.append(cross);
    plot.replaceChildren(root);
    Object.assign(chart, { root, cross, at, x, inner });
  }

  function drawPhases(root, spec, at, inner) {
    for (const phase of spec.phases || []) {
      const [from, to] = [at.x(phase.from), at.x(phase.to)];
      const box = { x: fixed(from), y: MARGIN.top, width: fixed(Math.max(0, to - from)),
        height: inner.height, class: MEASURED.test(phase.name) ? 'phase' : 'phase aside' };
      root.append(svg('rect', box));
      if (to - from > phase.name.length * 6 + 6) {
        root.append(svg('text', { x: fixed((from + to) / 2), y: MARGIN.top - 8,
          class: 'phase-name', 'text-anchor': 'middle' }, phase.name));
      }
      if (from > MARGIN.left + 1) {
        root.append(svg('line', { x1: fixed(from), x2: fixed(from), y1: MARGIN.top - 6,
          y2: MARGIN.top + inner.height, class: 'grid' }));
      }
    }
  }

  function drawAxes(root, spec, x, y, at, inner) {
    const right = MARGIN.left + inner.width;
    const bottom = MARGIN.top + inner.height;
    for (const place of y.places) {
      const height = fixed(at.y(place));
      root.append(
        svg('line', { x1: MARGIN.left, x2: right, y1: height, y2: height, class: 'grid' }),
        svg('text', { x: MARGIN.left - 8, y: height, 'text-anchor': 'end', dy: '0.32em' },
          tick(place, spec.unit)),
      );
    }
    root.append(svg('line', { x1: MARGIN.left, x2: right, y1: bottom, y2: bottom,
      class: 'axis' }));
    for (const place of x.places) {
      const across = at.x(place);
      // The outermost labels stay within the plot.
      const anchor = across > right - 12 ? 'end' : 'middle';
      root.append(
        svg('line', { x1: fixed(across), x2: fixed(across), y1: bottom, y2: bottom + 4,
          class: 'axis' }),
        svg('text', { x: fixed(across), y: bottom + 18, 'text-anchor': anchor },
          x.label(place)),
      );
    }
  }

  function drawLine(root, line, at, alone) {
    const bottom = at.y(0);
    for (const piece of pieces(line, (x, y) => [at.x(x), at.y(y)])) {
      if (piece.length === 1) {
        const [[cx, cy]] = piece;
        root.append(svg('circle', { cx: fixed(cx), cy: fixed(cy), r: 2.5,
          style: `fill: var(--line-${line.color})` }));
        continue;
      }
      if (alone && line.area !== false) {
        const base = fixed(Math.min(bottom, HEIGHT - MARGIN.bottom));
        const area = `${path(piece)}L${fixed(piece[piece.length - 1][0])} ${base}` +
          `L${fixed(piece[0][0])} ${base}Z`;
        root.append(svg('path', { d: area, class: 'area',
          style: `fill: var(--line-${line.color})` }));
      }
      const look = piece.length > DENSE ? 'line dense' : 'line';
      root.append(svg('path', { d: path(piece), class: look, 'stroke-dasharray': line.dash || '',
        style: `stroke: var(--line-${line.color})` }));
    }
  }

  // The value whose place is nearest; none if the line has none near there.
  function nearest(line, place, reach) {
    let best = null;
    line.x.forEach((x, index) => {
      if (line.y[index] === null) return;
      const distance = Math.abs(x - place);
      if (distance <= reach && (!best || distance < best.distance)) best = { index, distance };
    });
    return best && best.index;
  }

  function point(chart, place) {
    const { spec, x, at, cross, inner } = chart;
    if (place === null || place < x.low || place > x.high) {
      cross.setAttribute('visibility', 'hidden');
      for (const line of spec.series) line.output.textContent = '';
      return;
    }
    const reach = (x.high - x.low) * 0.04;
    const across = fixed(at.x(place));
    const bottom = MARGIN.top + inner.height;
    const label = spec.axis === 'nines' ? nines(place) : clock(place, x.high);
    const marks = [
      svg('line', { x1: across, x2: across, y1: MARGIN.top, y2: bottom }),
      svg('rect', { x: across - 28, y: bottom + 5, width: 56, height: 18, rx: 4 }),
      svg('text', { x: across, y: bottom + 18, 'text-anchor': 'middle' }, label),
    ];
    for (const line of spec.series) {
      const index = nearest(line, place, line.rare ? Infinity : reach);
      line.output.textContent = index === null ? '' : reading(line.y[index], spec.unit);
      if (index !== null) {
        marks.push(svg('circle', { cx: fixed(at.x(line.x[index])), cy: fixed(at.y(line.y[index])),
          r: 3.5, style: `fill: var(--line-${line.color})` }));
      }
    }
    cross.replaceChildren(...marks);
    cross.setAttribute('visibility', 'visible');
  }

  // All charts of a report that share an axis are read at the same place.
  function follow(chart) {
    const fellows = () => charts.filter((other) =>
      other.group === chart.group && other.spec.axis === chart.spec.axis);
    chart.plot.addEventListener('pointermove', (event) => {
      const box = chart.root.getBoundingClientRect();
      const across = (event.clientX - box.left) * (chart.width / box.width);
      const share = Math.min(1, Math.max(0, (across - MARGIN.left) / chart.inner.width));
      for (const other of fellows()) point(other, chart.x.back(share));
    });
    chart.plot.addEventListener('pointerleave', () => {
      for (const other of fellows()) point(other, null);
    });
  }

  function add(place, spec, group) {
    spec.series = spec.series.filter((line) => line.y.some((value) => value !== null));
    if (!spec.series.length) return;
    const keys = spec.series.map((line) => {
      line.output = html('output');
      const swatch = svg('svg', { width: 22, height: 10, 'aria-hidden': 'true' },
        svg('line', { x1: 1, x2: 21, y1: 5, y2: 5, class: 'line',
          'stroke-dasharray': line.dash || '', style: `stroke: var(--line-${line.color})` }));
      return html('span', { class: 'key' }, swatch, html('span', {}, line.name), line.output);
    });
    const plot = html('div', { class: 'plot' });
    const caption = html('figcaption', {}, html('h3', {}, spec.title),
      html('p', { class: 'about' }, spec.about));
    const figure = html('figure', { class: spec.wide ? 'wide' : '' }, caption,
      html('div', { class: 'legend' }, ...keys), plot);
    place.append(figure);
    const chart = { spec, plot, group };
    charts.push(chart);
    draw(chart, roomOf(chart));
    follow(chart);
  }

//CHARTS//

  for (const place of document.querySelectorAll('[data-report]')) {
    const index = Number(place.dataset.report);
    if (reports[index]) showReport(place, reports[index], `report-${index}`);
  }
  for (const place of document.querySelectorAll('[data-compare]')) {
    const [from, to] = place.dataset.compare.split('-').map(Number);
    showComparison(place, reports.slice(from, to), `compare-${from}`);
  }

  const fit = () => {
    for (const chart of charts) {
      if (roomOf(chart) !== chart.width) draw(chart, roomOf(chart));
    }
  };
  new ResizeObserver(fit).observe(document.body);

  // Two plots beside each other on paper, with letters that can be read there.
  const PRINTED = 380;
  addEventListener('beforeprint', () => charts.forEach((chart) => draw(chart, PRINTED)));
  addEventListener('afterprint', fit);
})();
