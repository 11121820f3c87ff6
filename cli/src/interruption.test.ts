import { afterEach, describe, expect, it } from 'vitest';
import { listenForInterruption, type Interruption } from './interruption.ts';
import { TestClock } from './progress/test-clock.ts';

let listening: Interruption | undefined;
afterEach(() => listening?.close());

function listen(): { clock: TestClock; interruption: Interruption; said: string[]; exits: number[] } {
  const clock = new TestClock();
  const said: string[] = [];
  const exits: number[] = [];
  const interruption = listenForInterruption({
    clock,
    say: (line) => said.push(line),
    exit: (code) => exits.push(code),
  });
  listening = interruption;
  return { clock, interruption, said, exits };
}

describe('Ctrl-C', () => {
  it('asks to stop once, and ends the process the second time', () => {
    const { clock, interruption, said, exits } = listen();
    process.emit('SIGINT');
    expect(interruption.signal.aborted).toBe(true);
    expect(interruption.exitCode()).toBe(130);
    clock.advance(1500);
    process.emit('SIGINT');
    expect(said).toHaveLength(1);
    expect(exits).toEqual([130]);
  });

  it('takes what arrives twice at once for one press', () => {
    const { clock, interruption, exits } = listen();
    process.emit('SIGTERM');
    clock.advance(20);
    process.emit('SIGTERM');
    expect(interruption.exitCode()).toBe(143);
    expect(exits).toEqual([]);
  });

  it('stops listening when it is closed', () => {
    const before = process.listenerCount('SIGINT');
    const { interruption } = listen();
    expect(process.listenerCount('SIGINT')).toBe(before + 1);
    interruption.close();
    expect(process.listenerCount('SIGINT')).toBe(before);
  });
});
