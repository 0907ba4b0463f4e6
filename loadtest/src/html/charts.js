  // Which plots there are: of one report, and of several laid over each other.

  const column = (report, name) => (report.timeline.columns || {})[name] || [];

  // Quotients of two columns; none where there is too little to divide by.
  function ratio(report, over, under, factor, least) {
    const divisors = column(report, under);
    return column(report, over).map((value, index) => {
      const divisor = divisors[index];
      return value === null || !(divisor >= least) ? null : (value / divisor) * factor;
    });
  }

  // Counts a second; none outside of the stretch in which anything happened.
  function rate(report, name) {
    const counts = column(report, name);
    const first = counts.findIndex((count) => count > 0);
    const last = counts.length - 1 - [...counts].reverse().findIndex((count) => count > 0);
    return ratio(report, name, 'seconds', 1, 1e-9)
      .map((value, index) => (first < 0 || index < first || index > last ? null : value));
  }

  // A quotient over few events is noise, and so is one that many logins have a part in.
  const EVENTS_LEAST = 20;
  const LOGINS_MOST = 0.05;

  function perMessage(report, end) {
    const [logins, messages] = [column(report, 'logins'), column(report, 'messages')];
    return ratio(report, `${end}_cpu`, 'messages', 1e9, EVENTS_LEAST)
      .map((value, index) => (logins[index] > messages[index] * LOGINS_MOST ? null : value));
  }

  // What came in addition since the beginning: the rest belongs to the machine.
  function growth(values) {
    const first = values.find((value) => value !== null);
    return values.map((value) => (value === null ? null : Math.max(0, value - first)));
  }

  const SHOWN = {
    messages: {
      title: 'Messages per second', unit: 'count', about: 'Messages that arrived.',
      y: (report) => rate(report, 'messages'),
    },
    deliveries: {
      title: 'Presence deliveries per second', unit: 'count',
      about: 'Changes that contacts got.',
      y: (report) => rate(report, 'deliveries'),
    },
    logins: {
      title: 'Logins per second', unit: 'count', about: 'From the first octet to the roster.',
      y: (report) => rate(report, 'logins'),
    },
    online: {
      title: 'Sessions online', unit: 'count', about: 'Logged in at that moment.',
      y: (report) => column(report, 'online'),
    },
    messageCpu: {
      title: 'CPU per message', unit: 'time', about: 'Time on a core, divided by messages.',
      y: perMessage,
    },
    deliveryCpu: {
      title: 'CPU per presence delivery', unit: 'time',
      about: 'Time on a core, divided by deliveries.',
      y: (report, end) => ratio(report, `${end}_cpu`, 'deliveries', 1e9, EVENTS_LEAST),
    },
    loginCpu: {
      title: 'CPU per login', unit: 'time', about: 'Time on a core, divided by logins.',
      y: (report, end) => ratio(report, `${end}_cpu`, 'logins', 1e9, EVENTS_LEAST),
    },
    cpu: {
      title: 'CPU', unit: 'percent', about: '100 % is one core.',
      y: (report, end) => ratio(report, `${end}_cpu`, 'seconds', 100, 1e-9),
    },
    switches: {
      title: 'Context switches per second', unit: 'count', about: 'Of all threads of the server.',
      y: (report) => ratio(report, 'server_switches', 'seconds', 1, 1e-9),
    },
    errors: {
      title: 'Errors per second', unit: 'count', about: 'All kinds together.',
      y: (report) => rate(report, 'errors'),
    },
  };

  const busy = (report, name) => column(report, name).filter((count) => count > 0).length;
  const some = (report, name) => busy(report, name) > 0;

  // A few messages around a cut are no course.
  const talks = (report, name) => busy(report, name) >= 3;

  // Whether logins are worth plots of their own: beside messages they are a short beginning.
  function loginsMatter(report) {
    const logins = busy(report, 'logins');
    return logins >= 2 && (logins >= 8 || !talks(report, 'messages'));
  }

  // What a report has plots of: the name of its columns, the title, and what belongs to it.
  const KINDS = [
    { kind: 'message', title: 'Latency', about: 'From write, or when it was due, to read.',
      counted: 'messages', cpu: 'messageCpu', shown: (report) => talks(report, 'messages') },
    { kind: 'presence', title: 'Presence latency', about: 'From when it was due to its contacts.',
      counted: 'deliveries', cpu: 'deliveryCpu', shown: (report) => talks(report, 'deliveries') },
    { kind: 'login', title: 'Login time', about: 'From the connection to the roster.',
      counted: 'logins', cpu: 'loginCpu', shown: loginsMatter },
  ];

  // Where messages and presence go on at the same time, nobody can tell whose CPU it was.
  const isMixed = (shown) => shown.filter(({ kind }) => kind !== 'login').length > 1;

  function timed(report, shown, lines) {
    const x = column(report, 'at');
    return {
      title: shown.title, about: shown.about, unit: shown.unit, log: shown.log, axis: 'time',
      phases: report.timeline.phases,
      series: lines.map((line) => ({ x, ...line })),
    };
  }

  const TAILS = [
    ['p50', 'p50', 1, ''], ['p99', 'p99', 3, ''], ['p999', 'p99.9', 2, ''],
    ['max', 'max', 6, '2 3'],
  ];

  function latency(report, kind, title, about) {
    const lines = TAILS.map(([name, shown, color, dash]) =>
      ({ name: shown, color, dash, y: column(report, `${kind}_${name}`) }));
    return timed(report, { title, about, unit: 'time', log: true }, lines);
  }

  function distribution(found, title, lines) {
    const series = lines.filter((line) => line.of).map((line) => ({
      name: line.name, color: line.color, dash: line.dash,
      x: line.of.quantiles.map(([share]) => -Math.log10(1 - share)),
      y: line.of.quantiles.map(([, value]) => value),
    }));
    const about = found.count === null
      ? 'The further to the right, the rarer.'
      : `Of ${found.count.toLocaleString('en-US')}; the further to the right, the rarer.`;
    return { title, about, unit: 'time', log: true, axis: 'nines', series, phases: [] };
  }

  const spread = (report, kind) => report.distributions.find((one) => one.name === kind);

  function showReport(place, report, group) {
    const put = (spec) => add(place, spec, group);
    const both = (shown) => timed(report, shown, [
      { name: 'server', color: 1, y: shown.y(report, 'server') },
      { name: 'generator', color: 2, dash: '5 3', y: shown.y(report, 'generator') },
    ]);
    const single = (shown, name, color) =>
      timed(report, shown, [{ name, color, y: shown.y(report) }]);
    const shown = KINDS.filter((one) => one.shown(report));
    for (const { kind, title, about, counted, cpu } of shown) {
      put(latency(report, kind, `${title} over time`, about));
      const of = spread(report, kind);
      if (of) put(distribution(of, `${title} by percentile`, [{ name: counted, color: 1, of }]));
      put(single(SHOWN[counted], counted, 3));
      if (kind === 'login' || !isMixed(shown)) put(both(SHOWN[cpu]));
    }
    const back = spread(report, 'return');
    if (back) {
      const lines = [{ name: 'sessions', color: 1, of: back }];
      put(distribution(back, 'Time until a session is back, by percentile', lines));
    }
    const online = single(SHOWN.online, 'sessions', 1);
    if (online.series[0].y.some((count) => count > 0)) put(online);
    put(memory(report));
    const cpu = both(SHOWN.cpu);
    cpu.series.push({ name: 'other programs', color: 6, dash: '1 3', x: column(report, 'at'),
      y: SHOWN.cpu.y(report, 'others') });
    put(cpu);
    put(single(SHOWN.switches, 'server', 5));
    if (some(report, 'errors')) {
      put(single(SHOWN.errors, 'errors', 4));
    }
  }

  function memory(report) {
    const lines = [
      ['server, PSS', 'server_pss', 1, ''], ['server, anonymous', 'server_anonymous', 1, '2 3'],
      ['generator, PSS', 'generator_pss', 2, '5 3'],
      ['kernel slab', 'kernel_slab', 3, '', growth],
      ['socket buffers', 'socket_memory', 5, '', growth],
    ];
    const about = 'Of both processes; of the kernel what came in addition, for both ends.';
    return timed(report, { title: 'Memory', about, unit: 'bytes' },
      lines.map(([name, key, color, dash, of]) => {
        const y = column(report, key);
        return { name, color, dash, rare: true, y: of ? of(y) : y };
      }));
  }

  // Runs are laid over each other where that begins what is measured.
  function beginning(report) {
    const phases = report.timeline.phases;
    const main = phases.find((phase) => MEASURED.test(phase.name)) || phases[0];
    return main ? main.from : 0;
  }

  const COLORS = [1, 2, 3, 4, 5, 6];
  const DASHES = ['', '6 3', '2 2', '8 3 2 3', '1 3', ''];
  const lookOf = ({ name, color }) =>
    ({ name, color: COLORS[color % COLORS.length], dash: DASHES[color % DASHES.length] });

  function overlay(all, title, about, unit, read, more) {
    const series = all.map((report) => {
      const zero = beginning(report);
      return {
        ...lookOf(report), area: false,
        x: column(report, 'at').map((at) => at - zero), y: read(report), ...more,
      };
    });
    return { title, about, unit, axis: 'time', series, phases: [], log: unit === 'time' };
  }

  const overlaid = (all, kind) => all.map((report) =>
    ({ ...lookOf(report), of: spread(report, kind) }));

  function showComparison(place, all, group) {
    const put = (spec) => add(place, spec, group);
    const from = 'Time 0 is where measuring begins.';
    const shown = KINDS.filter((one) => all.some(one.shown));
    for (const { kind, title, counted, cpu } of shown) {
      put(distribution({ count: null }, `${title} by percentile`, overlaid(all, kind)));
      for (const [key, name] of TAILS.slice(0, 2)) {
        put(overlay(all, `${title}, ${name}`, from, 'time', (r) => column(r, `${kind}_${key}`)));
      }
      put(overlay(all, SHOWN[counted].title, from, 'count', SHOWN[counted].y));
      if (kind === 'login' || !isMixed(shown)) {
        put(overlay(all, `Server ${SHOWN[cpu].title}`, from, 'time',
          (r) => SHOWN[cpu].y(r, 'server')));
      }
    }
    const back = overlaid(all, 'return');
    put(distribution({ count: null }, 'Time until a session is back, by percentile', back));
    if (all.some((r) => some(r, 'online'))) {
      put(overlay(all, 'Sessions online', from, 'count', SHOWN.online.y));
    }
    put(overlay(all, 'Server CPU', '100 % is one core.', 'percent',
      (r) => SHOWN.cpu.y(r, 'server')));
    put(overlay(all, 'Server memory', 'PSS.', 'bytes', (r) => column(r, 'server_pss'),
      { rare: true }));
  }
