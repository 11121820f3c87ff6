/** The `lifeboat` command: signals in, exit code out. Everything else is in `run.ts` and below. */
import process from 'node:process';
import { run } from './run.ts';

process.exitCode = await run(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  environment: process.env,
});
