/** What every command is given, so that tests can give something else. */
import { systemClock, type Clock } from '@lifeboat/foundation/clock';
import { systemRandom, type Random } from '@lifeboat/foundation/random';
import type { Configuration } from '@lifeboat/runtime/configuration';
import { createOutput, type Output, type Streams } from './output.ts';
import { silentDisplay, sizeOf, type Display } from './progress/display.ts';
import { lineDisplay } from './progress/line-display.ts';
import { Stages } from './progress/stages.ts';
import { terminalDisplay } from './progress/terminal-display.ts';
import type { GlobalOptions } from './program.ts';
import { styleFor } from './text/style.ts';

export interface CommandContext {
  readonly configuration: Configuration;
  readonly output: Output;
  /** What is done now; the display draws it. */
  readonly stages: Stages;
  readonly display: Display;
  /** Columns of the stream that results go to. */
  readonly width: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly signal: AbortSignal;
  readonly environment: Streams['environment'];
}

/** Text on a pipe is broken at this width. */
const PIPE_COLUMNS = 100;
const WIDEST = 120;

export function createContext(
  streams: Streams,
  options: { global: GlobalOptions; configuration: Configuration; signal: AbortSignal },
): CommandContext {
  const { global, configuration, signal } = options;
  const clock = systemClock;
  const stages = new Stages(clock);
  const { stderr, stdout, environment } = streams;
  const style = styleFor(stderr, environment);
  const display = global.quiet
    ? silentDisplay
    : stderr.isTTY === true && environment['TERM'] !== 'dumb'
      ? terminalDisplay(stages, stderr, style)
      : lineDisplay(stages, stderr, { style, clock });
  return {
    configuration,
    output: createOutput(streams, { json: global.json }),
    stages,
    display,
    width: Math.min(WIDEST, sizeOf(stdout, 'columns', PIPE_COLUMNS)),
    clock,
    random: systemRandom,
    signal,
    environment,
  };
}
