/**
 * The libvirt client against the real daemon: each procedure number, each event, each stream. Domains hold no operating
 * system; their boot sector speaks on the serial line.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { startVictim } from '@lifeboat/host/testing/victim';
import * as backup from '@lifeboat/libvirt/backup-calls';
import { LibvirtConnection } from '@lifeboat/libvirt/connection';
import * as domains from '@lifeboat/libvirt/domain-calls';
import { isLibvirtError } from '@lifeboat/libvirt/errors';
import type { EventName, DomainEvent } from '@lifeboat/libvirt/events';
import * as guests from '@lifeboat/libvirt/guest-calls';
import * as host from '@lifeboat/libvirt/host-calls';
import * as networks from '@lifeboat/libvirt/network-calls';
import type { DomainRef } from '@lifeboat/libvirt/references';
import { echoSector, readingSector, sectorImage } from '../support/boot-sectors.ts';

const PREFIX = `lbt-lv-${process.pid}`;
const source = (file: string): string =>
  JSON.stringify(new URL(`../../packages/libvirt/src/${file}`, import.meta.url).href);
const METADATA_URI = 'urn:lifeboat:test:1';

let directory: string;
let connection: LibvirtConnection;
let unique = 0;

beforeAll(async () => {
  mkdirSync('/var/lib/lifeboat', { recursive: true });
  directory = mkdtempSync('/var/lib/lifeboat/lbt-lv-');
  chmodSync(directory, 0o711);
  connection = await LibvirtConnection.open();
});

afterAll(async () => {
  for (const domain of await domains.listDomains(connection)) {
    if (domain.name.startsWith(PREFIX)) await remove(domain);
  }
  for (const network of await networks.listNetworks(connection)) {
    if (!network.name.startsWith(PREFIX)) continue;
    await networks.destroyNetwork(connection, network).catch(() => undefined);
    await networks.undefineNetwork(connection, network).catch(() => undefined);
  }
  await connection.close();
  rmSync(directory, { recursive: true, force: true });
});

async function remove(domain: DomainRef): Promise<void> {
  await domains.destroyDomain(connection, domain).catch(() => undefined);
  await domains.undefineDomain(connection, domain, { checkpointsMetadata: true }).catch(() => undefined);
}

interface Shape {
  readonly name: string;
  readonly disk?: string;
  readonly agent?: boolean;
}

function domainXml({ name, disk = '', agent = false }: Shape): string {
  return `<domain type='qemu'><name>${name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
    <os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>
    <devices>${disk}
      <controller type='usb' model='none'/><memballoon model='none'/>
      <serial type='pty'/><video><model type='vga'/></video>
      ${agent ? "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>" : ''}
    </devices></domain>`;
}

function fileDisk(file: string, format: 'raw' | 'qcow2'): string {
  return `<disk type='file' device='disk'><driver name='qemu' type='${format}'/><source file='${file}'/><target dev='sda' bus='sata'/></disk>`;
}

function nextName(): string {
  unique += 1;
  return `${PREFIX}-${unique}`;
}

function qcow2(name: string, size = '16M'): string {
  const file = path.join(directory, name);
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', file, size]);
  return file;
}

async function started(shape: Omit<Shape, 'name'>, options: { paused?: boolean } = {}): Promise<DomainRef> {
  const domain = await domains.startTransientDomain(connection, domainXml({ name: nextName(), ...shape }), options);
  onTestFinished(() => remove(domain));
  return domain;
}

async function defined(shape: Omit<Shape, 'name'>): Promise<DomainRef> {
  const domain = await domains.defineDomain(connection, domainXml({ name: nextName(), ...shape }));
  onTestFinished(() => remove(domain));
  return domain;
}

/** Collects events of one domain until one satisfies `wanted`. */
async function watch<N extends EventName>(
  name: N,
  domain: DomainRef,
): Promise<{ until(wanted: (event: DomainEvent<N>) => boolean): Promise<DomainEvent<N>> }> {
  const seen: DomainEvent<N>[] = [];
  let wake = (): void => {};
  const subscription = await connection.subscribe(
    name,
    (event) => {
      seen.push(event);
      wake();
    },
    { domain },
  );
  onTestFinished(() => subscription.cancel());
  return {
    async until(wanted) {
      const deadline = Date.now() + 30_000;
      for (;;) {
        const found = seen.find(wanted);
        if (found) return found;
        if (Date.now() > deadline) throw new Error(`no such ${name} event among ${JSON.stringify(seen.length)}`);
        await new Promise<void>((resolve) => {
          wake = resolve;
          setTimeout(resolve, 500);
        });
      }
    },
  };
}

async function textUntil(stream: { read(): Promise<Buffer | undefined> }, wanted: string): Promise<string> {
  let text = '';
  while (!text.includes(wanted)) {
    const bytes = await stream.read();
    if (bytes === undefined) break;
    text += bytes.toString('latin1');
  }
  return text;
}

describe('the daemon and its host', () => {
  test('agrees with virsh about versions and names', async () => {
    const said = execFileSync('virsh', ['version']).toString();
    expect(said).toContain(`libvirt ${await host.libvirtVersion(connection)}`);
    expect(said).toContain(`QEMU ${await host.hypervisorVersion(connection)}`);
    expect(await host.hostname(connection)).toBe(execFileSync('virsh', ['hostname']).toString().trim());
    const { cpus, memoryKiB } = await host.nodeInfo(connection);
    const node = execFileSync('virsh', ['nodeinfo']).toString();
    expect(node).toMatch(new RegExp(`CPU\\(s\\): +${cpus}\\b`));
    expect(node).toContain(`${memoryKiB} KiB`);
    expect(await host.capabilities(connection)).toContain('<capabilities>');
  });

  test('a keepalive ping of the daemon is answered', async () => {
    const watched = await LibvirtConnection.open({ keepalive: true });
    onTestFinished(() => watched.close());
    // libvirtd pings every 5 s by default.
    await expect.poll(() => watched.pingsAnswered, { timeout: 60_000 }).toBeGreaterThan(0);
    expect(await host.libvirtVersion(watched)).toMatch(/^\d+\.\d+\.\d+$/);
  });

  test('a URI nobody serves is an error of the daemon, not a hang', async () => {
    await expect(LibvirtConnection.open({ uri: 'nonsense:///x' })).rejects.toMatchObject({
      context: { procedure: 'connectOpen', libvirtCode: expect.any(Number) as number },
    });
  });

  test('who may not use the socket is told so, whether the kernel says it or polkit', async () => {
    const socketPath = path.join(directory, 'forbidden');
    const server = net.createServer().listen(socketPath);
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    chmodSync(socketPath, 0o600);
    expect(await asNobody(socketPath)).toBe('libvirt.not-permitted EACCES');
    // libvirtd lets everybody connect and then asks polkit, which does not run here or does not know nobody.
    expect(await asNobody('/run/libvirt/libvirt-sock')).toMatch(/^libvirt\.not-permitted/);
  });
});

/** What opening a connection says to the user nobody. */
async function asNobody(socketPath: string): Promise<string> {
  const script = `
    const { LibvirtConnection } = await import(${source('connection.ts')});
    try { await LibvirtConnection.open({ socketPath: process.argv[1], timeoutMs: 10000 }); console.log('open'); }
    catch (error) { console.log(error.code, error.context?.reason ?? ''); }
    process.exit();`;
  const child = spawn(
    'setpriv',
    [
      '--reuid=65534',
      '--regid=65534',
      '--clear-groups',
      process.execPath,
      '--input-type=module',
      '-e',
      script,
      socketPath,
    ],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  await once(child, 'close');
  return output.trim();
}

describe('a domain', () => {
  test('is defined, found, run, measured, and removed again', async () => {
    const file = qcow2('life.qcow2');
    const domain = await defined({ disk: fileDisk(file, 'qcow2') });
    expect(await domains.domainByName(connection, domain.name)).toEqual(domain);
    expect(await domains.domainByUuid(connection, domain.uuid)).toEqual(domain);
    expect(await domains.listDomains(connection, { inactive: true })).toContainEqual(domain);
    expect(await domains.isPersistent(connection, domain)).toBe(true);
    expect(await domains.domainXml(connection, domain, { inactive: true })).toContain(`<name>${domain.name}</name>`);
    expect((await domains.domainState(connection, domain)).state).toBe('shut-off');
    await expect(domains.destroyDomain(connection, domain)).rejects.toMatchObject({ code: 'libvirt.wrong-state' });

    const events = await watch('lifecycle', domain);
    const running = await domains.startDomain(connection, domain, { paused: true });
    expect(running.id).toBeGreaterThan(0);
    expect(await domains.listDomains(connection, { active: true })).toContainEqual(running);
    expect((await domains.domainState(connection, domain)).state).toBe('paused');
    await domains.resumeDomain(connection, domain);
    await events.until(({ kind }) => kind === 'resumed');
    await domains.suspendDomain(connection, domain);
    await events.until(({ kind }) => kind === 'suspended');
    await domains.resumeDomain(connection, domain);

    const info = await domains.domainInfo(connection, domain);
    expect(info).toMatchObject({ state: 'running', vcpus: 1, maxMemoryKiB: 32_768n });
    expect(info.cpuTimeNs).toBeGreaterThan(0n);
    expect((await domains.memoryStats(connection, domain)).size).toBeGreaterThan(0);
    expect(await domains.blockStats(connection, domain, 'sda')).toMatchObject({ writtenBytes: 0n });
    expect((await domains.blockInfo(connection, domain, 'sda')).capacityBytes).toBe(16n * 1024n * 1024n);
    const [vcpuOnly] = await domains.allDomainStats(connection, { domains: [domain], groups: ['vcpu'] });
    expect([...(vcpuOnly?.parameters.keys() ?? [])]).toContain('vcpu.0.time');
    expect([...(vcpuOnly?.parameters.keys() ?? [])]).not.toContain('block.count');
    const everything = await domains.allDomainStats(connection, { domains: [domain] });
    expect(everything[0]?.parameters.get('block.0.name')).toBe('sda');

    await guests.sendKeys(connection, domain, [28]);
    await domains.resetDomain(connection, domain);
    // The boot sector is empty: nobody in there heeds the power button, but the question is asked.
    await domains.shutdownDomain(connection, domain);
    await domains.destroyDomain(connection, domain);
    await events.until(({ kind }) => kind === 'stopped');
    await domains.undefineDomain(connection, domain);
    await events.until(({ kind }) => kind === 'undefined');
    await expect(domains.domainByUuid(connection, domain.uuid)).rejects.toMatchObject({
      code: 'libvirt.no-such-domain',
      context: { libvirtCode: 42 },
    });
  });

  test('a definition that is not one is refused, and nothing stays', async () => {
    await expect(domains.defineDomain(connection, '<domain')).rejects.toMatchObject({
      code: 'libvirt.invalid-definition',
    });
    await expect(domains.startTransientDomain(connection, '<network/>')).rejects.toMatchObject({
      code: 'libvirt.invalid-definition',
    });
  });

  test('carries metadata of a namespace', async () => {
    const domain = await defined({});
    const call = { uri: METADATA_URI, prefix: 'lbt' };
    const missing: unknown = await domains
      .domainMetadata(connection, domain, METADATA_URI)
      .catch((error: unknown) => error);
    expect(isLibvirtError(missing, 'noMetadata')).toBe(true);
    await domains.setDomainMetadata(connection, domain, { ...call, xml: "<tag op='1'/>" }, { config: true });
    expect(await domains.domainMetadata(connection, domain, METADATA_URI, { config: true })).toBe('<tag op="1"/>');
    await domains.setDomainMetadata(connection, domain, { ...call, xml: undefined }, { config: true });
    await expect(domains.domainMetadata(connection, domain, METADATA_URI)).rejects.toThrow(/metadata not found/);
  });

  test('with auto-destroy ends with its connection, also when the process behind it is killed', async () => {
    const own = await LibvirtConnection.open();
    const first = await domains.startTransientDomain(own, domainXml({ name: nextName() }), { autoDestroy: true });
    expect(await domains.isPersistent(connection, first)).toBe(false);
    const gone = await watch('lifecycle', first);
    await own.close();
    await gone.until(({ kind }) => kind === 'stopped');

    const name = nextName();
    const victim = startVictim(`
      const { LibvirtConnection } = await import(${source('connection.ts')});
      const { startTransientDomain } = await import(${source('domain-calls.ts')});
      const own = await LibvirtConnection.open();
      await startTransientDomain(own, ${JSON.stringify(domainXml({ name }))}, { autoDestroy: true });
      console.log('ready');
    `);
    expect(await victim.nextLine()).toBe('ready');
    const second = await domains.domainByName(connection, name);
    const killed = await watch('lifecycle', second);
    await victim.kill();
    await killed.until(({ kind }) => kind === 'stopped');
  });
});

describe('streams', () => {
  test('the console speaks from the first byte, and listens', async () => {
    const image = path.join(directory, 'echo.img');
    writeFileSync(image, sectorImage(echoSector('hello from sector 0\r\n')));
    const domain = await started({ disk: fileDisk(image, 'raw') }, { paused: true });
    const stream = await guests.openConsole(connection, domain);
    await expect(guests.openConsole(connection, domain)).rejects.toThrow(/[Aa]ctive console session/);
    await domains.resumeDomain(connection, domain);
    expect(await textUntil(stream, '\n')).toBe('hello from sector 0\r\n');
    await stream.write(Buffer.from('echo'));
    expect(await textUntil(stream, 'echo')).toBe('echo');
    await stream.finish();
    // Closed in order, so the next one may have it, also by force while it is open.
    const again = await guests.openConsole(connection, domain);
    await guests.openConsole(connection, domain, { force: true });
    await expect(textUntil(again, 'never')).rejects.toMatchObject({ code: 'libvirt.stream-failed' });
  });

  test('the console ends when its domain does', async () => {
    const domain = await started({});
    const stream = await guests.openConsole(connection, domain);
    await domains.destroyDomain(connection, domain);
    expect(await textUntil(stream, 'never')).not.toContain('never');
  });

  test('a screenshot is an image', async () => {
    const domain = await started({});
    const { mime, bytes } = await guests.screenshot(connection, domain);
    expect(mime).toBe('image/png');
    expect(bytes.subarray(1, 4).toString()).toBe('PNG');
    expect(bytes.subarray(-8, -4).toString()).toBe('IEND');
  });
});

describe('QEMU and the guest agent', () => {
  test('the monitor answers in both its languages', async () => {
    const domain = await started({});
    const status: unknown = JSON.parse(await guests.monitorCommand(connection, domain, '{"execute":"query-status"}'));
    expect(status).toMatchObject({ return: { status: 'running' } });
    expect(await guests.monitorCommand(connection, domain, 'info status', { hmp: true })).toContain('running');
  });

  test('no channel, and a channel without an agent, are told apart', async () => {
    const mute = await started({});
    await expect(guests.agentCommand(connection, mute, '{"execute":"guest-ping"}')).rejects.toMatchObject({
      code: 'libvirt.unsupported',
      context: { libvirtCode: 74 },
    });
    const deaf = await started({ agent: true });
    await expect(guests.agentCommand(connection, deaf, '{"execute":"guest-ping"}')).rejects.toMatchObject({
      code: 'libvirt.agent-unresponsive',
      context: { libvirtCode: 86 },
    });
    await expect(guests.freezeFilesystems(connection, deaf)).rejects.toMatchObject({
      context: { libvirtCode: 86, procedure: 'domainFsfreeze' },
    });
    await expect(guests.thawFilesystems(connection, deaf)).rejects.toMatchObject({
      context: { libvirtCode: 86, procedure: 'domainFsthaw' },
    });
  });

  test('a disk that fails is an event', async () => {
    const socketPath = path.join(directory, 'failing.sock');
    const image = path.join(directory, 'failing.img');
    writeFileSync(image, sectorImage(readingSector()));
    const server = spawn('qemu-nbd', ['-r', '-t', '-f', 'raw', '-x', 'disk', '-k', socketPath, image], {
      stdio: 'ignore',
    });
    onTestFinished(() => void server.kill('SIGKILL'));
    await expect.poll(() => connects(socketPath), { timeout: 10_000 }).toBe(true);
    chmodSync(socketPath, 0o777);
    const domain = await started(
      {
        disk: `<disk type='network' device='disk'><driver name='qemu' type='raw' rerror_policy='stop'/>
          <source protocol='nbd' name='disk'><host transport='unix' socket='${socketPath}'/></source><readonly/>
          <target dev='vda' bus='virtio'/></disk>`,
      },
      { paused: true },
    );
    const errors = await watch('ioError', domain);
    await domains.resumeDomain(connection, domain);
    await expect
      .poll(async () => (await domains.blockStats(connection, domain, 'vda')).readRequests, { timeout: 20_000 })
      .toBeGreaterThan(10n);
    server.kill('SIGKILL');
    expect(await errors.until(() => true)).toMatchObject({
      sourcePath: 'disk',
      deviceAlias: 'virtio-disk0',
      action: 'pause',
    });
  });
});

function connects(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(socketPath, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

describe('checkpoints and backup jobs', () => {
  test('from the first checkpoint to the last', async () => {
    const file = qcow2('tracked.qcow2');
    const domain = await defined({ disk: fileDisk(file, 'qcow2') });
    await domains.startDomain(connection, domain);
    const xmlOf = (name: string): string =>
      `<domaincheckpoint><name>${name}</name><disks><disk name='sda' checkpoint='bitmap'/></disks></domaincheckpoint>`;
    const first = await backup.createCheckpoint(connection, domain, xmlOf('one'));
    expect(first.name).toBe('one');

    const scratch = path.join(directory, 'job');
    mkdirSync(scratch);
    chownSync(scratch, Number(execFileSync('id', ['-u', 'libvirt-qemu']).toString()), 0);
    const jobXml = `<domainbackup mode='pull'><incremental>one</incremental>
      <server transport='unix' socket='${scratch}/nbd.sock'/>
      <disks><disk name='sda' backup='yes' type='file'><driver type='qcow2'/><scratch file='${scratch}/scratch'/></disk></disks>
      </domainbackup>`;
    const completed = await watch('jobCompleted', domain);
    expect((await backup.jobStats(connection, domain)).type).toBe(0);
    await backup.beginBackup(connection, domain, { backup: jobXml, checkpoint: xmlOf('two') });
    expect(await backup.backupXml(connection, domain)).toContain(`${scratch}/nbd.sock`);
    expect((await backup.jobStats(connection, domain)).type).not.toBe(0);
    await backup.abortJob(connection, domain);
    const { parameters } = await completed.until(() => true);
    // Backup is the sixth operation; that the end is an abort and yet a success is how a pull job ends.
    expect(Object.fromEntries(parameters)).toMatchObject({ success: true, errmsg: expect.any(String) as string });
    await expect(backup.backupXml(connection, domain)).rejects.toMatchObject({
      code: 'libvirt.no-backup-job',
      context: { libvirtCode: 104 },
    });

    const ordered = await backup.listCheckpoints(connection, domain, { topological: true });
    expect(ordered.map(({ name }) => name)).toEqual(['one', 'two']);
    const second = await backup.checkpointByName(connection, domain, 'two');
    expect(await backup.checkpointXml(connection, second)).toContain('<name>one</name>');
    expect(await backup.checkpointXml(connection, second, { size: true })).toMatch(/size='0'/);
    await expect(backup.checkpointByName(connection, domain, 'three')).rejects.toMatchObject({
      code: 'libvirt.no-such-checkpoint',
    });

    const twoXml = await backup.checkpointXml(connection, second);
    await backup.deleteCheckpoint(connection, second, { metadataOnly: true });
    await backup.createCheckpoint(connection, domain, twoXml, { redefine: true });
    await backup.deleteCheckpoint(connection, second);
    await backup.deleteCheckpoint(connection, first);
    expect(await backup.listCheckpoints(connection, domain)).toEqual([]);
  });

  test('a block job of one disk is an event', async () => {
    const base = qcow2('base.qcow2');
    const overlay = path.join(directory, 'overlay.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', overlay]);
    const domain = await started({ disk: fileDisk(overlay, 'qcow2') });
    const jobs = await watch('blockJob', domain);
    execFileSync('virsh', ['blockpull', domain.name, 'sda']);
    expect(await jobs.until(({ status }) => status === 'completed')).toMatchObject({ disk: 'sda', type: 1 });
  });
});

describe('networks', () => {
  test('are defined, started, seen and removed', async () => {
    const name = nextName();
    const xml = `<network><name>${name}</name><bridge stp='off' delay='0'/></network>`;
    const network = await networks.defineNetwork(connection, xml);
    expect(await networks.networkByName(connection, name)).toEqual(network);
    expect(await networks.listNetworks(connection)).toContainEqual(network);
    await networks.startNetwork(connection, network);
    expect(await networks.networkXml(connection, network)).toContain(`<uuid>${network.uuid}</uuid>`);
    expect(await networks.dhcpLeases(connection, network)).toEqual([]);
    await networks.destroyNetwork(connection, network);
    await networks.undefineNetwork(connection, network);
    await expect(networks.networkByName(connection, name)).rejects.toMatchObject({ code: 'libvirt.no-such-network' });

    const transient = await networks.startTransientNetwork(connection, xml);
    await networks.destroyNetwork(connection, transient);
    await expect(networks.networkByName(connection, name)).rejects.toMatchObject({ code: 'libvirt.no-such-network' });
  });
});
