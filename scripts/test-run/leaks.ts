/**
 * Finds what tests leave behind on the machine: compared are the moments before and after the run.
 *
 *   domains, networks   ours by name (`lb…`) or by the owner tag in their XML
 *   loop devices        all
 *   mounts              below the state root and the directory for temporary files
 *   processes           the programs that serve disks and run machines, by name; and whatever has our mark in its
 *                       environment, which children inherit and an orphan keeps
 *
 * Not found: a process that cleared its environment and has another name; files.
 */
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { spawnTool } from './child.ts';

const MARK = 'LIFEBOAT_TEST_RUN';
const OWNER_TAG = 'urn:lifeboat:owner';
const PROGRAMS = ['qemu-system-x86', 'qemu-storage-da', 'qemu-nbd', 'nbdkit', 'nbdfuse', 'temporal'];
const TOOL_LIMIT_MS = 60_000;
/** libvirt destroys the guests of a client that died within 2 s; a process that was told to stop may write for longer. */
const GRACE_MS = 15_000;
const LOOK_MS = 1000;

export class LeakWatch {
  readonly #before: ReadonlySet<string>;
  readonly #mark = randomUUID();

  private constructor(before: ReadonlySet<string>) {
    this.#before = before;
  }

  static async begin(): Promise<LeakWatch> {
    return new LeakWatch(new Set(await present(undefined)));
  }

  /** For the processes that run the tests. */
  get environment(): Readonly<Record<string, string>> {
    return { [MARK]: this.#mark };
  }

  /** What is there now and was not before, one line each. What disappears within the grace time does not count. */
  async end(): Promise<string[]> {
    const deadlineMs = performance.now() + GRACE_MS;
    for (;;) {
      const left = (await present(`${MARK}=${this.#mark}`)).filter((thing) => !this.#before.has(thing));
      if (left.length === 0 || performance.now() > deadlineMs) return left;
      await sleep(LOOK_MS);
    }
  }
}

async function present(mark: string | undefined): Promise<string[]> {
  return [
    ...(await libvirtObjects('domain', ['list', '--all', '--name'], 'dumpxml')),
    ...(await libvirtObjects('network', ['net-list', '--all', '--name'], 'net-dumpxml')),
    ...lines(await output('losetup', ['--list', '--noheadings', '--output', 'NAME,BACK-FILE'])).map(
      (line) => `loop device ${line}`,
    ),
    ...mounts(),
    ...processes(mark),
  ];
}

async function libvirtObjects(kind: string, list: readonly string[], show: string): Promise<string[]> {
  const virsh = ['--quiet', '--connect', 'qemu:///system'];
  const ours: string[] = [];
  for (const name of lines(await output('virsh', [...virsh, ...list]))) {
    // One that disappears between the two questions is not left behind.
    const xml = await spawnTool('virsh', [...virsh, show, name], { limitMs: TOOL_LIMIT_MS });
    if (xml.code === 0 && (name.startsWith('lb') || xml.output.includes(OWNER_TAG))) ours.push(`${kind} ${name}`);
  }
  return ours;
}

function mounts(): string[] {
  const roots = [process.env['LIFEBOAT_STATE'] ?? '/var/lib/lifeboat', tmpdir()];
  return lines(readFileSync('/proc/self/mountinfo', 'utf8'))
    .map((line) => line.split(' ')[4] ?? '')
    .filter((point) => roots.some((root) => point.startsWith(`${root}/`)))
    .map((point) => `mount ${point}`);
}

function processes(mark: string | undefined): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid) => {
      const stat = read(`/proc/${pid}/stat`);
      // The program's name stands in parentheses and may hold some; the start time is the 20th field behind it.
      const program = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (fields[0] === 'Z' || stat === '') return [];
      const marked = mark !== undefined && read(`/proc/${pid}/environ`).split('\0').includes(mark);
      if (!marked && !PROGRAMS.includes(program)) return [];
      const command = read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').slice(0, 160);
      return [`process ${pid} since tick ${fields[19]}: ${command || program}`];
    });
}

/** Empty for a process that is gone or not ours to look into. */
function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return ''; // it ended while we looked, or belongs to another user
  }
}

async function output(file: string, args: readonly string[]): Promise<string> {
  const result = await spawnTool(file, args, { limitMs: TOOL_LIMIT_MS });
  if (result.code !== 0) throw new Error(`${file} ${args.join(' ')} ended with ${result.how}: ${result.output}`);
  return result.output;
}

function lines(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}
