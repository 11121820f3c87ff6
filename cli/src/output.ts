/**
 * What a command gives back. Results go to stdout and nothing else does; progress, notes and errors go to stderr. With
 * `--json` stdout holds exactly one JSON document, also when the command failed.
 */
import { failureLines, type Failure } from './failure.ts';
import type { DisplayStream } from './progress/display.ts';
import { styleFor, type Style } from './text/style.ts';

export interface Output {
  readonly json: boolean;
  readonly style: Style;
  /** The result of the command: the document for programs, the lines for people. Once per command. */
  result(document: unknown, lines: readonly string[]): void;
  /** `document: false` where the result is on stdout already and names the failure. */
  failed(failure: Failure, options?: { document: boolean }): void;
}

export interface Streams {
  readonly stdout: DisplayStream;
  readonly stderr: DisplayStream;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

export function createOutput(streams: Streams, options: { json: boolean }): Output {
  const errorStyle = styleFor(streams.stderr, streams.environment);
  return {
    json: options.json,
    style: styleFor(streams.stdout, streams.environment),
    result(document, lines) {
      streams.stdout.write(
        options.json ? `${JSON.stringify(document, null, 2)}\n` : lines.map((line) => `${line}\n`).join(''),
      );
    },
    failed(failure, { document } = { document: true }) {
      const { exitCode, ...error } = failure;
      if (options.json && document) streams.stdout.write(`${JSON.stringify({ error, exitCode }, null, 2)}\n`);
      const [first = '', ...rest] = failureLines(failure);
      streams.stderr.write(
        `${[`${errorStyle.bad('error:')} ${first}`, ...rest.map((line) => `  ${line}`)].join('\n')}\n`,
      );
    },
  };
}
