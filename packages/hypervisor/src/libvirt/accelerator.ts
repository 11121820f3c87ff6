/**
 * Whether KVM runs guests on this host. The device may be there and still not do: on nested paravirtual hosts SeaBIOS
 * starts and a 64-bit kernel does not (seen: "KVM internal error, emulation failure" at the first SSE instruction).
 *
 *   1. this boot and this QEMU were probed before?    yes: the answer of then
 *   2. libvirt offers KVM at all?                     no: emulation
 *   3. start a guest of 512 bytes that enters 64-bit mode, computes in SSE registers and reloads its page tables, and says
 *      on its serial line how far it came. "123" within the time: KVM.
 *
 * It is started through libvirt, since that decides which user QEMU is and whether it may open /dev/kvm. An answer is kept
 * per boot and QEMU version; a probe that could not be carried out is not an answer and is not kept.
 */
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { messageOf, systemCode } from '@lifeboat/foundation/errors';
import type { Log } from '@lifeboat/foundation/log';
import { resumeDomain, startTransientDomain } from '@lifeboat/libvirt/domain-calls';
import { openConsole } from '@lifeboat/libvirt/guest-calls';
import { capabilities } from '@lifeboat/libvirt/host-calls';
import { attributeOf, childrenOf, readXml } from '../xml/xml-reader.ts';
import { element } from '../xml/xml-writer.ts';
import type { Connections } from './connections.ts';

const PROBE_TIMEOUT_MS = 10_000;
const BOOT_ID_PATH = '/proc/sys/kernel/random/boot_id';
const SECTOR_BYTES = 512;
const IMAGE_BYTES = 1024 * 1024;

export interface Acceleration {
  readonly accelerator: 'kvm' | 'tcg';
  readonly reason: string;
}

export interface ProbeDeps {
  readonly connections: Connections;
  readonly qemuVersion: string;
  readonly log: Log;
  /** Absent: asked once per process. */
  readonly cacheFile?: string;
}

export async function probeAcceleration(deps: ProbeDeps): Promise<Acceleration> {
  const bootId = (await readFile(BOOT_ID_PATH, 'utf8')).trim();
  const key = `${bootId} ${deps.qemuVersion}`;
  const known = await readCache(deps.cacheFile, key);
  if (known) return known;
  if (!offersKvm(await capabilities(await deps.connections.shared()))) {
    return { accelerator: 'tcg', reason: 'libvirt offers no KVM on this host (no /dev/kvm, or no access to it)' };
  }
  try {
    const acceleration = await probe(deps);
    if (deps.cacheFile !== undefined) {
      await writeFile(deps.cacheFile, `${JSON.stringify({ key, ...acceleration })}\n`);
    }
    return acceleration;
  } catch (error) {
    const reason = `KVM could not be tried (${messageOf(error)}), so guests are emulated`;
    deps.log.warn(reason);
    return { accelerator: 'tcg', reason };
  }
}

function offersKvm(capabilitiesXml: string): boolean {
  return childrenOf(readXml(capabilitiesXml), 'guest').some((guest) => {
    const arch = childrenOf(guest, 'arch').find((candidate) => candidate.attributes.get('name') === 'x86_64');
    return childrenOf(arch, 'domain').some((domain) => attributeOf(domain, '', 'type') === 'kvm');
  });
}

async function readCache(cacheFile: string | undefined, key: string): Promise<Acceleration | undefined> {
  if (cacheFile === undefined) return undefined;
  let text: string;
  try {
    text = await readFile(cacheFile, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const value = JSON.parse(text) as Partial<Acceleration> & { key?: string };
    if (value.key !== key || value.reason === undefined) return undefined;
    if (value.accelerator !== 'kvm' && value.accelerator !== 'tcg') return undefined;
    return { accelerator: value.accelerator, reason: value.reason };
  } catch {
    // Cut off by a crash: as good as none, and written anew after the probe.
    return undefined;
  }
}

async function probe({ connections, cacheFile }: ProbeDeps): Promise<Acceleration> {
  const parent = cacheFile === undefined ? os.tmpdir() : path.dirname(cacheFile);
  const directory = await mkdtemp(path.join(parent, 'kvm-probe-'));
  // Auto-destroy ends the guest with this connection, whatever happens here.
  const connection = await connections.own();
  try {
    await chmod(directory, 0o711);
    const image = path.join(directory, 'probe.img');
    await writeFile(image, Buffer.concat([probeSector(), Buffer.alloc(IMAGE_BYTES - SECTOR_BYTES)]), { mode: 0o644 });
    const started = await startTransientDomain(connection, probeDomain(path.basename(directory), image), {
      paused: true,
      autoDestroy: true,
    });
    const stream = await openConsole(connection, started);
    // A guest that KVM cannot carry on with is paused by QEMU: no need to wait for the time to pass.
    await connection.subscribe('lifecycle', ({ kind }) => kind === 'suspended' && stream.abort(), { domain: started });
    await resumeDomain(connection, started);
    const said = await firstBytes(stream, 3);
    if (said === '123') return { accelerator: 'kvm', reason: 'KVM ran a 64-bit probe guest' };
    const how =
      said === ''
        ? 'a probe guest did not start'
        : `a probe guest stopped ${said === '1' ? 'on its way to 64-bit mode' : 'in 64-bit mode'}`;
    return {
      accelerator: 'tcg',
      reason: `KVM is there but not usable: ${how}; guests are emulated`,
    };
  } finally {
    await connection.close();
    await rm(directory, { recursive: true, force: true });
  }
}

async function firstBytes(
  stream: { read(): Promise<Buffer | undefined>; abort(): void },
  count: number,
): Promise<string> {
  let text = '';
  const timer = setTimeout(() => stream.abort(), PROBE_TIMEOUT_MS);
  try {
    while (text.length < count) {
      const bytes = await stream.read();
      if (bytes === undefined) break;
      text += bytes.toString('latin1');
    }
  } finally {
    clearTimeout(timer);
    stream.abort();
  }
  return text.slice(0, count);
}

function probeDomain(name: string, image: string): string {
  const disk = element(
    'disk',
    { type: 'file', device: 'disk' },
    element('driver', { name: 'qemu', type: 'raw' }),
    element('source', { file: image }),
    element('target', { dev: 'sda', bus: 'sata' }),
  );
  return element(
    'domain',
    { type: 'kvm' },
    element('name', {}, name),
    element('memory', { unit: 'MiB' }, 16),
    element('vcpu', {}, 1),
    element('os', {}, element('type', { arch: 'x86_64', machine: 'q35' }, 'hvm')),
    element(
      'devices',
      {},
      disk,
      element('controller', { type: 'usb', model: 'none' }),
      element('serial', { type: 'pty' }),
      element('memballoon', { model: 'none' }),
    ),
  ).source;
}

/** Loaded by the BIOS at 7c00. Bytes with their meaning; labels in brackets. */
const PROBE_CODE: readonly (readonly [hex: string, meaning: string])[] = [
  ['fa 31c0 8ed8 8ec0 8ed0 bc007c', 'cli; ax = ds = es = ss = 0; sp = 7c00'],
  ['b031 e86700', "al = '1'; call [say]"],
  ['bf0010 6631c0 b9000c fc 66f3ab', 'clear three pages of page tables from 1000'],
  ['66c706001003200000', '[1000] = 2003: first level'],
  ['66c706002003300000', '[2000] = 3003: second level'],
  ['66c706003083000000', '[3000] = 83: one 2 MiB page, itself'],
  ['66b800100000 0f22d8', 'cr3 = 1000'],
  ['0f20e0 660d20060000 0f22e0', 'cr4: physical address extension, SSE'],
  ['66b9800000c0 0f32 660d01090000 0f30', 'EFER: long mode, no-execute, syscall'],
  ['0f0116d07c', 'lgdt [gdt size]'],
  ['0f20c0 6683e0fb 660d03000080 0f22c0', 'cr0: paging, protection, no FPU emulation'],
  ['ea7d7c0800', 'jump to 64-bit code: [long]'],
  ['baf803 ee c3', '[say] out 3f8, al; ret'],
  ['b032 66baf803 ee', "[long] say '2'"],
  ['48b88877665544332211', 'rax = 1122334455667788'],
  ['66480f6ec0 660fefc9 660fd4c8 66480f7ecb', 'through xmm0 and xmm1 to rbx'],
  ['4839c3 7509', 'not the same: [halt]'],
  ['0f20d8 0f22d8', 'reload the page tables'],
  ['b033 ee', "say '3'"],
  ['66baf400 b010 ee f4 ebfd', '[halt] exit device, if there is one; hlt; again'],
  ['0000000000000000', 'gdt: null'],
  ['00000000009a2000', 'gdt: 64-bit code'],
  ['0000000000920000', 'gdt: data'],
  ['1700 b87c0000', '[gdt size] 23; address'],
];

function probeSector(): Buffer {
  const code = Buffer.from(PROBE_CODE.map(([hex]) => hex.replaceAll(' ', '')).join(''), 'hex');
  const sector = Buffer.alloc(SECTOR_BYTES);
  code.copy(sector);
  sector.writeUInt16BE(0x55aa, SECTOR_BYTES - 2);
  return sector;
}
