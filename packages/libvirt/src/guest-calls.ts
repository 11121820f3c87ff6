/** Calls that talk to the guest or to its QEMU: agent, freeze, keys, console, screenshot, monitor. */
import { nothing, type CallOptions, type LibvirtConnection } from './connection.ts';
import { writeDomain, type DomainRef } from './references.ts';
import type { LibvirtStream } from './stream.ts';

const SCREENSHOT_MAX_BYTES = 64 * 1024 * 1024;

/** QEMU's own monitor: one QMP command, its `return` value as JSON. `hmp` takes a line for people and answers text. */
export function monitorCommand(
  connection: LibvirtConnection,
  domain: DomainRef,
  command: string,
  options: CallOptions & { hmp?: boolean } = {},
): Promise<string> {
  const { hmp = false, ...rest } = options;
  return connection.call({
    ...rest,
    procedure: 'domainMonitorCommand',
    object: domain.name,
    write: (writer) => {
      writeDomain(writer, domain);
      writer.string(command).u32(hmp ? 1 : 0);
    },
    read: (reader) => reader.string(),
  });
}

/** One JSON command to the guest agent. Errors: `libvirt.unsupported` (no channel), `libvirt.agent-unresponsive`. */
export function agentCommand(
  connection: LibvirtConnection,
  domain: DomainRef,
  command: string,
  options: CallOptions & { answerSeconds?: number } = {},
): Promise<string | undefined> {
  const { answerSeconds = 5, ...rest } = options;
  return connection.call({
    ...rest,
    procedure: 'domainAgentCommand',
    object: domain.name,
    write: (writer) => {
      writeDomain(writer, domain);
      writer.string(command).i32(answerSeconds).u32(0);
    },
    read: (reader) => reader.optional(() => reader.string()),
  });
}

/** Freezes all filesystems through the guest agent; the answer is how many. Thaw always follows. */
export function freezeFilesystems(
  connection: LibvirtConnection,
  domain: DomainRef,
  options: CallOptions = {},
): Promise<number> {
  return fsCall(connection, 'domainFsfreeze', domain, options);
}

/** Idempotent: thawing what is not frozen answers 0. */
export function thawFilesystems(
  connection: LibvirtConnection,
  domain: DomainRef,
  options: CallOptions = {},
): Promise<number> {
  return fsCall(connection, 'domainFsthaw', domain, options);
}

function fsCall(
  connection: LibvirtConnection,
  procedure: 'domainFsfreeze' | 'domainFsthaw',
  domain: DomainRef,
  options: CallOptions,
): Promise<number> {
  return connection.call({
    ...options,
    procedure,
    object: domain.name,
    write: (writer) => {
      writeDomain(writer, domain);
      // No mount points named: all of them.
      writer.u32(0).u32(0);
    },
    read: (reader) => reader.i32(),
  });
}

/** Presses keys together, as Linux key codes (28 is Enter), for `holdMs`. */
export async function sendKeys(
  connection: LibvirtConnection,
  domain: DomainRef,
  keyCodes: readonly number[],
  options: CallOptions & { holdMs?: number } = {},
): Promise<void> {
  const { holdMs = 50, ...rest } = options;
  await connection.call({
    ...rest,
    procedure: 'domainSendKey',
    object: domain.name,
    write: (writer) => {
      writeDomain(writer, domain);
      writer.u32(0).u32(holdMs);
      writer.array(keyCodes, (code) => writer.u32(code)).u32(0);
    },
    read: nothing,
  });
}

/** The first serial console, both ways. Takes it over from whoever has it with `force`. */
export async function openConsole(
  connection: LibvirtConnection,
  domain: DomainRef,
  options: CallOptions & { force?: boolean } = {},
): Promise<LibvirtStream> {
  const { force = false, ...rest } = options;
  const { stream } = await connection.openStream(
    {
      ...rest,
      procedure: 'domainOpenConsole',
      object: domain.name,
      write: (writer) => {
        writeDomain(writer, domain);
        writer.bool(false).u32(force ? 1 : 0);
      },
      read: nothing,
    },
    `console of ${domain.name}`,
  );
  return stream;
}

/** The first screen as an image file: PNG or PPM, as `mime` says. Needs a video device. */
export async function screenshot(
  connection: LibvirtConnection,
  domain: DomainRef,
  options: CallOptions = {},
): Promise<{ mime: string; bytes: Buffer }> {
  const { stream, result } = await connection.openStream(
    {
      ...options,
      procedure: 'domainScreenshot',
      object: domain.name,
      write: (writer) => {
        writeDomain(writer, domain);
        writer.u32(0).u32(0);
      },
      read: (reader) => reader.optional(() => reader.string()),
    },
    `screenshot of ${domain.name}`,
  );
  return { mime: result ?? 'application/octet-stream', bytes: await stream.readAll(SCREENSHOT_MAX_BYTES, options) };
}
