/**
 * The report as one HTML file that needs nothing else: styles inside, screenshots as data: URIs, no script. The content
 * security policy says so to the browser too, so that nothing in a console log could fetch or run anything.
 */
import { formatBytes, formatDuration } from '@lifeboat/foundation/units';
import { formatInstant } from '../text/instant.ts';
import { html, Html } from '../text/html.ts';
import { REPORT_STYLE } from './report-style.ts';
import { headline, verdictOf, type BackupRow, type Check, type Evidence, type Report, type Step } from './report.ts';

export function reportHtml(report: Report): string {
  const verdict = verdictOf(report);
  const page = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta
          http-equiv="Content-Security-Policy"
          content="default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        />
        <title>${headline(report)}</title>
        <style>
          ${new Html(REPORT_STYLE)}
        </style>
      </head>
      <body>
        <main>
          <section class="verdict ${verdict}">
            <p class="kicker">Lifeboat demo, ${formatInstant(report.beganMs)}, ${formatDuration(report.durationMs)}</p>
            <h1>${headline(report)}</h1>
            <p class="soft">${report.machine.description}</p>
            ${report.brokenOff === undefined ? undefined : html`<p>Broken off: ${report.brokenOff}</p>`}
            ${claims(report)}
          </section>
          ${figures(report)} ${backups(report.backups)}
          <h2>What was done</h2>
          ${report.steps.map(stepSection)} ${durations(report.steps)} ${next(report)}
          <h2>Host</h2>
          ${facts(report.host)}
          <h2>Versions</h2>
          ${facts(report.versions)}
        </main>
      </body>
    </html>`;
  return `${page.text}\n`;
}

/** The claims that did not hold stand at the top, where they cannot be missed. */
function claims(report: Report): Html {
  const checks = report.steps.flatMap((step) => step.checks);
  const bad = checks.filter((check) => !check.good);
  if (bad.length === 0) {
    return html`<p class="soft">${checks.length} claims were put to the test; every one held.</p>`;
  }
  return html`<ul class="checks">
    ${bad.map(checkItem)}
  </ul>`;
}

function figures(report: Report): Html | undefined {
  const { recovery } = report;
  const incremental = report.backups.at(-1);
  const items: Html[] = [];
  const add = (name: string, value: string, meaning: string): void => {
    items.push(
      html`<li>
        <div class="name">${name}</div>
        <div class="value">${value}</div>
        <p class="meaning">${meaning}</p>
      </li>`,
    );
  };
  if (recovery?.rtoMs !== undefined) {
    add(
      'RTO measured',
      formatDuration(recovery.rtoMs),
      'from the order to restore to the machine answering on other hardware',
    );
  }
  if (recovery?.rpoMs !== undefined) {
    add(
      'RPO measured',
      formatDuration(recovery.rpoMs),
      'of work would have been lost: the age of the point when the machine went',
    );
  }
  if (recovery?.provenAfterMs !== undefined) {
    add(
      'Proven bootable',
      formatDuration(recovery.provenAfterMs),
      'after its instant, the newest point had been seen booting',
    );
  }
  if (incremental && report.backups.length > 1) {
    add(
      'Incremental stored',
      formatBytes(incremental.storedBytes),
      `for ${formatBytes(incremental.changedBytes)} changed; ${formatBytes(incremental.readBytes)} were read`,
    );
  }
  return items.length === 0
    ? undefined
    : html`<ul class="figures">
        ${items}
      </ul>`;
}

function backups(rows: readonly BackupRow[]): Html | undefined {
  if (rows.length === 0) return undefined;
  return html`<h2>Recovery points</h2>
    <table class="points">
      <thead>
        <tr>
          <th>Point</th>
          <th>How</th>
          <th class="number">Read</th>
          <th class="number">Changed</th>
          <th class="number">Stored</th>
          <th class="number">Took</th>
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          (row) =>
            html`<tr>
              <td>
                ${row.title}<br /><small>${row.pointId}<br />shows ${formatInstant(row.instantMs)}</small>
              </td>
              <td>${row.method}<br /><small>${row.consistency}-consistent</small></td>
              <td class="number" data-label="Read">${formatBytes(row.readBytes)}</td>
              <td class="number" data-label="Changed">${formatBytes(row.changedBytes)}</td>
              <td class="number" data-label="Stored">${formatBytes(row.storedBytes)}</td>
              <td class="number" data-label="Took">${formatDuration(row.durationMs)}</td>
            </tr>`,
        )}
      </tbody>
    </table>`;
}

function stepSection(step: Step): Html {
  const consoles = step.evidence.filter((item) => item.kind === 'console');
  const screenshots = step.evidence.filter((item) => item.kind === 'screenshot');
  return html`<section class="step" id="${step.id}">
    <header>
      ${stepMark(step)}
      <h3>${step.title}</h3>
      <span class="time">${step.state === 'skipped' ? 'left out' : formatDuration(step.durationMs)}</span>
    </header>
    <p>${step.summary}</p>
    ${
      step.checks.length === 0
        ? undefined
        : html`<ul class="checks">
            ${step.checks.map(checkItem)}
          </ul>`
    }
    ${step.facts.length === 0 ? undefined : facts(step.facts)}
    ${
      step.plan === undefined
        ? undefined
        : html`<p class="caption">The plan</p>
            <pre>${step.plan.join('\n')}</pre>`
    }
    ${consoles.map(
      (item) =>
        html`<p class="caption">${item.title}</p>
          <pre>${item.text}</pre>`,
    )}
    ${screenshots.length === 0 ? undefined : html`<div class="shots">${screenshots.map(screenshot)}</div>`}
  </section>`;
}

function stepMark(step: Step): Html {
  if (step.state === 'skipped') return html`<span class="mark none" aria-label="left out">–</span>`;
  return mark(step.state === 'done' && step.checks.every((check) => check.good));
}

function mark(good: boolean): Html {
  return good
    ? html`<span class="mark good" aria-label="good">✓</span>`
    : html`<span class="mark bad" aria-label="bad">✗</span>`;
}

function checkItem(check: Check): Html {
  return html`<li class="${check.good ? 'good' : 'bad'}">
    ${mark(check.good)}
    <div>
      ${check.good ? undefined : html`<strong>Did not hold:</strong> `}${check.claim}
      <div class="detail">${check.detail}</div>
    </div>
  </li>`;
}

function screenshot(item: Extract<Evidence, { kind: 'screenshot' }>): Html {
  return html`<figure>
    <img src="data:image/png;base64,${Buffer.from(item.png).toString('base64')}" alt="${item.title}" />
    <figcaption>${item.title}</figcaption>
  </figure>`;
}

function durations(steps: readonly Step[]): Html | undefined {
  const ran = steps.filter((step) => step.state !== 'skipped');
  const longestMs = Math.max(1, ...ran.map((step) => step.durationMs));
  if (ran.length === 0) return undefined;
  return html`<h2>Durations</h2>
    <table>
      <tbody>
        ${ran.map(
          (step) =>
            html`<tr>
              <td>${step.title}</td>
              <td class="number">${formatDuration(step.durationMs)}</td>
              <td class="wide">
                <div class="bar"><span style="width:${((step.durationMs / longestMs) * 100).toFixed(1)}%"></span></div>
              </td>
            </tr>`,
        )}
      </tbody>
    </table>`;
}

function next(report: Report): Html | undefined {
  if (report.next.length === 0) return undefined;
  return html`<h2>How to go on</h2>
    ${report.next.map(
      (item) =>
        html`<p class="caption">${item.purpose}</p>
          <pre>${item.command}</pre>`,
    )}`;
}

function facts(rows: readonly (readonly [string, string])[]): Html {
  return html`<dl>
    ${rows.map(
      ([name, value]) =>
        html`<dt>${name}</dt>
          <dd>${value}</dd>`,
    )}
  </dl>`;
}
