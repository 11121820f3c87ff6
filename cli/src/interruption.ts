/**
 * Ctrl-C, SIGTERM and a closed terminal: the first asks the command to stop and undo what it began, a second one ends the
 * process at once. Child processes die with it either way, and guests of boot tests with their connection.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';
import { EXIT, type ExitCode } from './exit-codes.ts';

const SIGNALS = { SIGINT: EXIT.interrupted, SIGTERM: EXIT.terminated, SIGHUP: EXIT.terminated } as const;

export interface Interruption {
  readonly signal: AbortSignal;
  /** The exit code of the signal that came; undefined while none has. */
  exitCode(): ExitCode | undefined;
  /** Stops listening. */
  close(): void;
}

export function listenForInterruption(say: (line: string) => void): Interruption {
  const controller = new AbortController();
  let code: ExitCode | undefined;
  const handlers = Object.entries(SIGNALS).map(([name, exitCode]) => {
    const handler = (): void => {
      if (code !== undefined) process.exit(exitCode);
      code = exitCode;
      say(`${name === 'SIGINT' ? 'Ctrl-C' : name}: stopping and undoing what was begun. Once more ends at once.`);
      controller.abort(new LifeboatError('operation.cancelled', `broken off by ${name}`));
    };
    process.on(name, handler);
    return { name, handler };
  });
  return {
    signal: controller.signal,
    exitCode: () => code,
    close: () => handlers.forEach(({ name, handler }) => process.off(name, handler)),
  };
}
