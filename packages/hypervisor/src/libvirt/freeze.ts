/**
 * Freezing the guest's filesystems around the instant of a snapshot.
 *
 *   1. ping the agent: without an answer nothing is frozen
 *   2. start a second process that thaws when this one dies, or hangs longer than a freeze may last
 *   3. freeze; do the work; thaw, whatever happened
 *   4. tell the second process that it is not needed
 *
 * Only the thaw shows that the freeze lasted: a guest that somebody else thawed before (the second process, the guest's own
 * time limit) has nothing to thaw any more.
 *
 * A guest that stays frozen is worse than a snapshot that is only crash consistent: so each step that fails leads to a
 * thaw and to "crash", with the reason, and never to a failed backup.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { hasCode, messageOf } from '@lifeboat/foundation/errors';
import type { Log } from '@lifeboat/foundation/log';
import { findProgram } from '@lifeboat/host/programs';
import type { LibvirtConnection } from '@lifeboat/libvirt/connection';
import { agentCommand, freezeFilesystems, thawFilesystems } from '@lifeboat/libvirt/guest-calls';
import type { DomainRef } from '@lifeboat/libvirt/references';

/** Flushing everything that is dirty takes a busy guest some seconds. */
const FREEZE_TIMEOUT_MS = 20_000;
const THAW_TIMEOUT_MS = 30_000;
const PING_SECONDS = 3;
/** After this the second process thaws, even though this one still lives. Above the freeze and a begin that waits 30 s. */
const WATCHDOG_SECONDS = 75;

export interface FreezeDeps {
  readonly connection: LibvirtConnection;
  readonly log: Log;
  /** For virsh, which the second process runs. */
  readonly virshUri: string;
  /** Tests shorten it. */
  readonly watchdogSeconds?: number;
}

export interface Frozen<T> {
  readonly result: T;
  readonly consistency: 'filesystem' | 'crash';
  readonly reason: string;
}

/** Runs `work` while the guest is frozen, if it can be, and exactly once. */
export async function whileFrozen<T>(deps: FreezeDeps, domain: DomainRef, work: () => Promise<T>): Promise<Frozen<T>> {
  const unfrozen = async (reason: string): Promise<Frozen<T>> => ({
    consistency: 'crash',
    reason,
    result: await work(),
  });
  const silence = await agentSilence(deps.connection, domain);
  if (silence !== undefined) return unfrozen(silence);
  let watchdog: ChildProcess;
  try {
    watchdog = await startWatchdog(deps, domain);
  } catch (error) {
    return unfrozen(`not frozen, since nothing would thaw the guest if this process died: ${messageOf(error)}`);
  }
  /** Undefined: not known, so the second process has to try. */
  let thawed: number | undefined;
  try {
    let filesystems: number;
    try {
      filesystems = await freezeFilesystems(deps.connection, domain, { timeoutMs: FREEZE_TIMEOUT_MS });
    } catch (error) {
      // It may have frozen some of them, or may still do it: thaw before going on.
      thawed = await thaw(deps, domain);
      return await unfrozen(`the guest agent could not freeze the filesystems: ${messageOf(error)}`);
    }
    let result: T;
    try {
      result = await work();
    } finally {
      thawed = await thaw(deps, domain);
    }
    return { ...reached(filesystems, thawed), result };
  } finally {
    // Without "done" the second process tries the thaw at once, with a connection of its own.
    watchdog.stdin?.end(thawed === undefined ? '' : 'done\n');
  }
}

function reached(frozen: number, thawed: number | undefined): Omit<Frozen<never>, 'result'> {
  const froze = `the guest agent froze ${frozen} filesystem${frozen === 1 ? '' : 's'}`;
  if (frozen === 0) return { consistency: 'crash', reason: froze };
  if (thawed === undefined) {
    return { consistency: 'crash', reason: `${froze}, but could not say afterwards whether they still were` };
  }
  if (thawed === 0) {
    return {
      consistency: 'crash',
      reason: `${froze}, but they were thawed by something else before the instant was over`,
    };
  }
  return { consistency: 'filesystem', reason: `${froze} for the instant` };
}

/** Why the agent cannot be asked; undefined when it answers. */
async function agentSilence(connection: LibvirtConnection, domain: DomainRef): Promise<string | undefined> {
  try {
    await agentCommand(connection, domain, '{"execute":"guest-ping"}', { answerSeconds: PING_SECONDS });
    return undefined;
  } catch (error) {
    if (hasCode(error, 'libvirt.unsupported')) return 'the machine has no guest agent channel';
    if (hasCode(error, 'libvirt.agent-unresponsive', 'libvirt.timeout')) return 'the guest agent does not answer';
    if (hasCode(error, 'libvirt.agent-failed', 'libvirt.operation-failed', 'libvirt.wrong-state')) {
      return `the guest agent cannot be used: ${messageOf(error)}`;
    }
    throw error;
  }
}

/** How many filesystems were frozen until now; undefined when it failed: the guest needs the second process, and a person. */
async function thaw({ connection, log }: FreezeDeps, domain: DomainRef): Promise<number | undefined> {
  try {
    return await thawFilesystems(connection, domain, { timeoutMs: THAW_TIMEOUT_MS });
  } catch (error) {
    log.error(`${domain.name} may still be frozen: the thaw failed; it is tried once more by virsh`, {
      machine: domain.name,
      error: messageOf(error),
    });
    return undefined;
  }
}

/**
 * Waits for our "done". The pipe closes without it when this process dies, however it dies; `timeout` ends the wait when it
 * hangs. It belongs to no process group of ours, so that what kills us does not kill it.
 */
async function startWatchdog(
  { virshUri, watchdogSeconds = WATCHDOG_SECONDS }: FreezeDeps,
  domain: DomainRef,
): Promise<ChildProcess> {
  const virsh = await findProgram('virsh', process.env);
  const script = `line=$(timeout "$1" head -n1); [ "$line" = done ] || exec "$2" -q -c "$3" domfsthaw "$4"`;
  const child = spawn('/bin/sh', ['-c', script, 'sh', String(watchdogSeconds), virsh, virshUri, domain.uuid], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
    cwd: '/',
  });
  // Its end before ours is noticed by the pipe; writing to it then fails, which changes nothing.
  child.stdin.on('error', () => {});
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', reject);
  });
  child.unref();
  return child;
}
