import { afterEach, describe, expect, it, vi } from 'vitest';
import { styleFor } from '../text/style.ts';
import { columns } from '../text/width.ts';
import type { DisplayStream } from './display.ts';
import { lineDisplay } from './line-display.ts';
import { Stages } from './stages.ts';
import { terminalDisplay } from './terminal-display.ts';
import { TestClock } from './test-clock.ts';

const style = styleFor({}, { LANG: 'C.UTF-8' });

// oxlint-disable-next-line no-control-regex -- these are the sequences of a terminal
const SEQUENCES = /(\u001b\[\d+A|\u001b\[J|\u001b\[\?25[hl]|\r|\n)/;
// oxlint-disable-next-line no-control-regex -- these are the sequences of a terminal
const UP = /^\u001b\[(\d+)A$/;

/** A terminal, as far as a display uses one: cursor up, erase to the end, new line. */
class FakeTerminal implements DisplayStream {
  readonly isTTY = true;
  columns = 60;
  rows = 10;
  lines: string[] = [''];
  #row = 0;
  #onResize: (() => void) | undefined;

  write(text: string): void {
    for (const part of text.split(SEQUENCES)) {
      const up = UP.exec(part);
      if (up) this.#row = Math.max(0, this.#row - Number(up[1]));
      else if (part === '\u001b[J') this.lines = [...this.lines.slice(0, this.#row), ''];
      else if (part === '\n') this.lines[++this.#row] ??= '';
      else if (part !== '' && part !== '\r' && !part.startsWith('\u001b[?25')) {
        this.lines[this.#row] = (this.lines[this.#row] ?? '') + part;
      }
    }
  }
  on(_: 'resize', listener: () => void): void {
    this.#onResize = listener;
  }
  off(): void {
    this.#onResize = undefined;
  }
  resize(): void {
    this.#onResize?.();
  }
  shown(): string[] {
    return this.lines.filter((line) => line !== '');
  }
}

afterEach(() => {
  vi.useRealTimers();
});

describe('progress on a terminal', () => {
  it('draws over its block and leaves what has ended above it', () => {
    vi.useFakeTimers();
    const clock = new TestClock();
    const stages = new Stages(clock);
    const terminal = new FakeTerminal();
    stages.plan('b', 'Backup');
    stages.plan('v', 'Verify');
    const display = terminalDisplay(stages, terminal, style);
    stages.begin('b', 'Backup');
    clock.advance(1000);
    vi.advanceTimersByTime(1000);
    expect(terminal.shown()).toEqual(['▸ Backup       1.0 s', '· Verify']);
    stages.end('b', 'done', { note: 'stored' });
    display.note('a note');
    stages.begin('v', 'Verify');
    clock.advance(2000);
    vi.advanceTimersByTime(1000);
    expect(terminal.shown()).toEqual(['a note', '✓ Backup       1.0 s   stored', '▸ Verify       2.0 s']);
    stages.end('v', 'failed', { note: 'does not start' });
    display.close();
    display.close();
    vi.advanceTimersByTime(5000);
    expect(terminal.shown()).toEqual([
      'a note',
      '✓ Backup       1.0 s   stored',
      '✗ Verify       2.0 s   does not start',
    ]);
  });

  it('takes a terminal that does not know its size for a usual one', () => {
    vi.useFakeTimers();
    const stages = new Stages(new TestClock());
    const terminal = new FakeTerminal();
    terminal.columns = terminal.rows = 0;
    stages.plan('i', 'Incremental backup of what was changed');
    stages.plan('v', 'Boot the newest point from the repository');
    const display = terminalDisplay(stages, terminal, style);
    vi.advanceTimersByTime(1000);
    expect(terminal.shown()).toEqual([
      '· Incremental backup of what was changed',
      '· Boot the newest point from the repository',
    ]);
    display.close();
  });

  it('fits any width and height', () => {
    vi.useFakeTimers();
    const stages = new Stages(new TestClock());
    const terminal = new FakeTerminal();
    for (let i = 0; i < 30; i++) stages.plan(`s${i}`, `Stage ${i} with quite a long title that does not fit anywhere`);
    stages.begin('s0', '');
    stages.update('s0', { phase: 'read', doneBytes: 5, totalBytes: 10, detail: 'x'.repeat(200) });
    const display = terminalDisplay(stages, terminal, style);
    for (const width of [60, 25, 100]) {
      terminal.columns = width;
      terminal.resize();
      expect(terminal.shown().every((line) => columns(line) < width)).toBe(true);
      expect(terminal.shown().length).toBeLessThan(terminal.rows);
      expect(terminal.shown().at(-1)).toMatch(/and \d+ more$/);
    }
    display.close();
  });
});

describe('progress on a pipe', () => {
  it('writes a line per change, and between these at most one in ten seconds', () => {
    vi.useFakeTimers();
    const clock = new TestClock();
    const stages = new Stages(clock);
    let text = '';
    const stream = { write: (part: string) => (text += part) };
    const display = lineDisplay(stages, stream, { style, clock });
    stages.begin('b', 'Backup');
    for (let i = 1; i <= 24; i++) {
      clock.advance(1000);
      stages.update('b', { phase: 'read', doneBytes: i * 1024 });
    }
    stages.end('b', 'done', { note: 'p1' });
    display.close();
    expect(text.split('\n')).toEqual([
      '▸ Backup',
      '▸ Backup (10.0 s): read: 10.0 KiB, 1.00 KiB/s',
      '▸ Backup (20.0 s): read: 20.0 KiB, 1.00 KiB/s',
      '✓ Backup (24.0 s): p1',
      '',
    ]);
  });

  it('says once a minute that it is alive when nothing moves', () => {
    vi.useFakeTimers();
    const clock = new TestClock();
    const stages = new Stages(clock);
    let lines = 0;
    const display = lineDisplay(stages, { write: () => lines++ }, { style, clock });
    stages.begin('b', 'Boot');
    for (let i = 0; i < 125; i++) {
      clock.advance(1000);
      vi.advanceTimersByTime(1000);
    }
    expect(lines).toBe(3);
    display.close();
  });
});
