/** The `lifeboat` command: signals in, exit code out. Everything else is in `run.ts` and below. */
import process from 'node:process';
import { systemCode } from '@lifeboat/foundation/errors';
import { run } from './run.ts';

// A reader that has seen enough (`| head`) or a terminal that was closed must not end a backup in its middle.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error) => {
    const code = systemCode(error);
    if (code !== 'EPIPE' && code !== 'EIO') throw error;
  });
}

process.exitCode = await run(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  environment: process.env,
});
