/** The small Debian guest for demo and tests: built once by scripts/build-guest.sh, then taken from the cache. */
import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { runTool, startChild } from '@lifeboat/host/children';

const SCRIPT = fileURLToPath(new URL('../../../scripts/build-guest.sh', import.meta.url));
/** A build takes one to two minutes; the rest is for slow mirrors and a build of another that is waited for. */
const BUILD_LIMIT_MS = 30 * 60_000;
const CACHED_LIMIT_MS = 60_000;
const LOOK_MS = 500;
/** How the script begins its lines of progress. */
const STEP = /^guest: (.+)$/;

export interface GuestImageOptions {
  readonly cacheRoot: string;
  /** Gets the build's log; made if absent. */
  readonly logDirectory: string;
  readonly signal: AbortSignal;
  /** What the build is doing; not called when the image comes from the cache. */
  readonly onStep: (step: string) => void;
}

/** The path of the guest's qcow2 image, which nobody may write to. Errors: `demo.guest-not-built`; the signal's reason. */
export async function guestImage(options: GuestImageOptions): Promise<string> {
  const { cacheRoot, logDirectory, signal, onStep } = options;
  signal.throwIfAborted();
  await mkdir(logDirectory, { recursive: true, mode: 0o700 });
  const env = { LIFEBOAT_CACHE: cacheRoot };
  const build = await startChild('bash', [SCRIPT], { directory: logDirectory, name: 'build-guest', env });
  const deadlineMs = systemClock.monotonicMs() + BUILD_LIMIT_MS;
  let last = '';
  try {
    while (build.exit === undefined) {
      signal.throwIfAborted();
      if (systemClock.monotonicMs() > deadlineMs) {
        throw notBuilt(
          `the guest was not built within ${BUILD_LIMIT_MS / 60_000} minutes (at: ${last})`,
          build.logPath,
        );
      }
      const step = latestStep(build.outputTail());
      if (step !== undefined && step !== last) onStep((last = step));
      await Promise.race([build.exited, systemClock.sleep(LOOK_MS, signal)]);
    }
  } finally {
    await build.stop();
  }
  if (build.exit.code !== 0) {
    const said = build.outputTail().trim().split('\n').slice(-3).join(' | ');
    const how = build.exit.signal ?? `code ${build.exit.code}`;
    throw notBuilt(`the guest could not be built (${how}): ${said}`, build.logPath);
  }
  // It exists now, so this takes milliseconds and prints its path and nothing else.
  const { stdout } = await runTool('bash', [SCRIPT], { env, timeoutMs: CACHED_LIMIT_MS, signal });
  return stdout.trim();
}

function latestStep(output: string): string | undefined {
  return output
    .split('\n')
    .map((line) => STEP.exec(line)?.[1])
    .findLast((step) => step !== undefined);
}

function notBuilt(message: string, logPath: string): LifeboatError {
  return new LifeboatError('demo.guest-not-built', `${message}; its log: ${logPath}`, { context: { logPath } });
}
