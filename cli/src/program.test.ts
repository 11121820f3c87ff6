import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CommanderError } from 'commander';
import { createProgram, type Handlers } from './program.ts';
import type { ExitCode } from './exit-codes.ts';

interface Ran {
  readonly calls: unknown[][];
  readonly out: string;
  readonly err: string;
  readonly code: ExitCode | undefined;
}

/** Parses a command line with handlers that only note what they were called with. */
async function parse(...args: string[]): Promise<Ran> {
  const calls: unknown[][] = [];
  let out = '';
  let err = '';
  let code: ExitCode | undefined;
  const note =
    (name: string) =>
    async (...given: unknown[]): Promise<ExitCode> => {
      calls.push([name, ...given]);
      return 3;
    };
  const handlers = Object.fromEntries(
    [
      'demo',
      'up',
      'backup',
      'points',
      'inspect',
      'evidence',
      'locks',
      'verify',
      'restore',
      'redeploy',
      'redeploys',
      'preflight',
      'repo',
      'drivers',
      'profiles',
    ].map((name) => [name, note(name)]),
  ) as unknown as Handlers;
  const program = createProgram({
    version: '1.2.3',
    handlers,
    finish: (finished) => (code = finished),
    write: { out: (text) => (out += text), err: (text) => (err += text) },
  });
  try {
    await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError) || error.exitCode !== 0) throw error;
  }
  return { calls, out, err, code };
}

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lifeboat-program-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const GLOBAL = { json: false, quiet: false };
const POINT = 'p20261124T002611Z-0a1b2c3d';

describe('lifeboat repo check', () => {
  it.each([
    ['200GiB', { bytes: 200 * 1024 ** 3 }],
    ['2TiB', { bytes: 2 * 1024 ** 4 }],
    ['30m', { durationMs: 1_800_000 }],
  ])('takes a budget of %s', async (text, budget) => {
    const { calls } = await parse('repo', 'check', '--budget', text, '--dry-run');
    expect(calls).toEqual([['repo', { kind: 'check', level: 'ciphertext', budget, dryRun: true }, GLOBAL]]);
  });

  it.each([['0GiB'], ['0m'], ['5'], ['5GB'], ['-1h'], ['1.5h'], ['']])('refuses %j as a budget', async (text) => {
    await expect(parse('repo', 'check', '--budget', text)).rejects.toBeInstanceOf(CommanderError);
  });

  it('shows what there would be to do only of a budget', async () => {
    await expect(parse('repo', 'check', '--dry-run')).rejects.toThrow(/--budget/);
  });
});

describe('command line', () => {
  it('hands a command its values and returns its exit code', async () => {
    const { calls, code } = await parse('backup', 'web 1', '--json');
    expect(calls).toEqual([['backup', 'web 1', { json: true, quiet: false }]]);
    expect(code).toBe(3);
    expect((await parse('points')).calls).toEqual([['points', undefined, GLOBAL]]);
    expect((await parse('inspect', 'web', POINT)).calls).toEqual([['inspect', 'web', POINT, GLOBAL]]);
    expect((await parse('inspect', 'web')).calls).toEqual([['inspect', 'web', undefined, GLOBAL]]);
    expect((await parse('locks', '--extend')).calls).toEqual([['locks', { extend: true }, GLOBAL]]);
    expect((await parse('points', 'web', '--config', 'c.json')).calls).toEqual([
      ['points', 'web', { ...GLOBAL, config: 'c.json' }],
    ]);
  });

  it('makes profiles of what it is given', async () => {
    const facts = ['--firmware', 'uefi', '--name', 'rack-7'];
    expect((await parse('profiles', 'from-lspci', '/a.txt', ...facts, '--boot-slot', '03:00.0')).calls).toEqual([
      [
        'profiles',
        {
          kind: 'from-lspci',
          path: '/a.txt',
          firmware: 'uefi',
          secureBoot: false,
          name: 'rack-7',
          bootSlot: '03:00.0',
        },
        GLOBAL,
      ],
    ]);
    expect((await parse('profiles', 'from-domain', 'web 1')).calls).toEqual([
      ['profiles', { kind: 'from-domain', machine: 'web 1' }, GLOBAL],
    ]);
    expect((await parse('profiles', 'show', 'nvme')).calls).toEqual([
      ['profiles', { kind: 'show', profile: 'nvme' }, GLOBAL],
    ]);
    await expect(parse('profiles', 'from-lspci', '/a.txt', '--name', 'x')).rejects.toThrow('--firmware');
    await expect(parse('profiles', 'from-lspci', '/a.txt', ...facts.slice(0, 2), '--name', 'X!')).rejects.toThrow(
      'small letters',
    );
    await expect(parse('profiles', 'from-lspci', '/a.txt', '--firmware', 'coreboot', '--name', 'x')).rejects.toThrow(
      'bios, uefi',
    );
  });

  it('checks filesystems, and with programs of this host, when asked', async () => {
    const program = join(directory, 'pg-check');
    writeFileSync(program, '');
    expect((await parse('verify', 'web', '--level', 'filesystem', '--check', program)).calls[0]?.[2]).toMatchObject({
      level: 'filesystem',
      check: [program],
    });
    await expect(parse('verify', 'web', '--check', program)).rejects.toThrow('--level filesystem');
    await expect(parse('verify', 'web', '--level', 'filesystem', '--check', '/nowhere')).rejects.toThrow('no program');
    await expect(parse('repo', 'check', '--level', 'filesystem')).rejects.toBeInstanceOf(CommanderError);
  });

  it('takes signs of a start, and what must answer then', async () => {
    const signs = ['--ready-by', 'dhcp', '--tcp', '22', '--tcp', '5432', '--http', '80/health?x=1', '--http', '8080'];
    expect((await parse('verify', 'web', ...signs, '--probe', 'true')).calls[0]?.[2]).toMatchObject({
      readyBy: 'dhcp',
      tcp: [
        { kind: 'tcp', port: 22 },
        { kind: 'tcp', port: 5432 },
      ],
      http: [
        { kind: 'http', port: 80, path: '/health?x=1' },
        { kind: 'http', port: 8080, path: '/' },
      ],
      probe: ['true'],
    });
    for (const bad of [
      ['--tcp', '0'],
      ['--tcp', '65536'],
      ['--http', 'x'],
      ['--http', '80/a b'],
      ['--ready-by', 'luck'],
    ])
      await expect(parse('verify', 'web', ...bad)).rejects.toBeInstanceOf(CommanderError);
  });

  it('asks of machines, or of all, about one spare model or more', async () => {
    expect((await parse('preflight', 'web', 'db', '--target', 'nvme', '--target', 'ide')).calls).toEqual([
      ['preflight', ['web', 'db'], expect.objectContaining({ target: ['nvme', 'ide'] }), GLOBAL],
    ]);
    expect((await parse('preflight', '--target', 'nvme', '--boot-budget', '30m')).calls).toMatchObject([
      ['preflight', [], { target: ['nvme'], bootBudget: 1_800_000, ready: expect.any(String) as string }, GLOBAL],
    ]);
    await expect(parse('preflight', 'web')).rejects.toThrow('--target');
    const nightly = async (time: string): Promise<unknown> =>
      (await parse('preflight', '--target', 'nvme', '--nightly', time)).calls[0]?.[2];
    expect(await nightly('02:30')).toMatchObject({ target: ['nvme'], nightly: { hour: 2, minute: 30 } });
    expect((await parse('preflight', '--nightly', 'off')).calls[0]?.[2]).toMatchObject({ target: [], nightly: 'off' });
    await expect(nightly('24:00')).rejects.toThrow('02:30');
    await expect(parse('preflight', 'web', '--target', 'nvme', '--nightly', '02:30')).rejects.toThrow('all machines');
  });

  it('tells the edits of redeploys from machines to redeploy', async () => {
    expect((await parse('redeploy', 'list', '--json')).calls).toEqual([
      ['redeploys', { kind: 'list' }, { json: true, quiet: false }],
    ]);
    const revert = { kind: 'revert', edit: 'dep-1', files: false, overwrite: false };
    expect((await parse('redeploy', 'revert', 'dep-1')).calls).toEqual([['redeploys', revert, GLOBAL]]);
    expect((await parse('redeploy', 'revert', 'dep-1', '--files', '--overwrite', '--quiet')).calls).toEqual([
      ['redeploys', { ...revert, files: true, overwrite: true }, { json: false, quiet: true }],
    ]);
    await expect(parse('redeploy', 'revert', '../x')).rejects.toThrow('lifeboat redeploy list');
    expect((await parse('redeploy', 'web', '--target', 'nvme', '--name', 'n', '--json')).calls[0]).toMatchObject([
      'redeploy',
      'web',
      { target: 'nvme', name: 'n', boot: true },
      { json: true },
    ]);
  });

  it('has defaults that prove', async () => {
    const { calls } = await parse('verify', 'web');
    expect(calls[0]?.[2]).toMatchObject({ level: 'content', boot: true, timeout: 300_000 });
    expect((await parse('verify', 'web', '--no-boot', '--point', POINT)).calls[0]?.[2]).toMatchObject({
      boot: false,
      point: POINT,
    });
  });

  it('takes a restore to a directory or to a device', async () => {
    expect((await parse('restore', 'web', '--to', directory, '--name', 'old')).calls[0]?.[2]).toEqual({
      plan: false,
      target: { kind: 'directory', directory, name: 'old' },
    });
    expect(
      (await parse('restore', 'web', '--to-device', '/dev/sdx', '--disk', 'vda', '--point', POINT)).calls[0]?.[2],
    ).toEqual({
      plan: false,
      point: POINT,
      target: { kind: 'device', disk: 'vda', path: '/dev/sdx' },
    });
  });

  it('a copy gets an identity of its own only when that is asked for', async () => {
    const redeploy = ['redeploy', 'web', '--target', 'nvme', '--name', 'n'];
    expect((await parse(...redeploy)).calls[0]?.[2]).toMatchObject({ newIdentity: false });
    expect((await parse(...redeploy, '--new-identity')).calls[0]?.[2]).toMatchObject({ newIdentity: true });
  });

  it('takes a device by what only it has, and how partitions are to lie there', async () => {
    const device = ['restore', 'web', '--disk', 'vda', '--to-device'];
    for (const [given, path] of [
      ['serial:S3Z9 NB', 'serial:S3Z9 NB'],
      ['wwn:eui.0025', 'wwn:eui.0025'],
      ['size:500GiB', `size:${500 * 1024 ** 3}`],
      ['size:512', 'size:512'],
    ] as const) {
      expect((await parse(...device, given)).calls[0]?.[2]).toMatchObject({ target: { path } });
    }
    const layout = ['--layout', 'gpt', '--resize', 'last', '--only', '1,5', '--uefi', '--new-ids', '--plan'];
    expect((await parse(...device, '/dev/sdx', ...layout)).calls[0]?.[2]).toEqual({
      plan: true,
      target: { kind: 'device', disk: 'vda', path: '/dev/sdx' },
      layout: { scheme: 'gpt', resize: 'last', only: [1, 5], firmware: 'uefi', ids: 'new' },
    });
    const images = ['restore', 'web', '--to', directory, '--name', 'old', '--disk', 'vdb', '--size', '40GiB'];
    expect((await parse(...images)).calls[0]?.[2]).toMatchObject({
      layout: { scheme: 'keep', firmware: 'same', ids: 'kept', disk: 'vdb', sizeBytes: 40 * 1024 ** 3 },
    });
    const redeploy = ['redeploy', 'web', '--target', 'ahci-uefi', '--name', 'n', '--layout', 'gpt', '--uefi'];
    expect((await parse(...redeploy)).calls[0]?.[2]).toMatchObject({
      target: 'ahci-uefi',
      layout: { scheme: 'gpt', firmware: 'uefi', ids: 'kept' },
    });
  });

  it('makes paths absolute, and leaves names of shipped profiles alone', async () => {
    const profile = join(directory, 'own.json');
    writeFileSync(profile, '{}');
    expect((await parse('demo', '--target', profile, '--report', 'r.html')).calls[0]?.[1]).toMatchObject({
      target: profile,
      report: join(process.cwd(), 'r.html'),
      skipProof: false,
      keep: false,
    });
    expect((await parse('demo')).calls[0]?.[1]).toMatchObject({ target: 'virtio-scsi' });
  });

  it.each([
    [['restore', 'web'], 'say where to restore'],
    [['restore', 'web', '--to', '/x'], '--to needs --name'],
    [['restore', 'web', '--to', '/x', '--name', 'n', '--to-device', '/dev/x'], 'exclude each other'],
    [['restore', 'web', '--to', '/x', '--name', 'n', '--disk', 'vda'], '--disk goes with --to-device'],
    [['restore', 'web', '--to-device', '/dev/x', '--disk', 'vda', '--size', '1GiB'], '--size goes with --to'],
    [['restore', 'web', '--to-device', 'serial: ', '--disk', 'vda'], 'a serial is needed'],
    [['restore', 'web', '--to-device', 'size:big', '--disk', 'vda'], 'a size in bytes'],
    [['restore', 'web', '--to', '/x', '--name', 'n', '--layout', 'mbr'], 'choose one of keep, aligned, gpt'],
    [['restore', 'web', '--to', '/x', '--name', 'n', '--only', '1,'], 'a partition has a number'],
    [['restore', 'web', '--to', '/x', '--name', 'n', '--resize', '0'], 'a partition has a number'],
    [['redeploy', 'web', '--target', 'ahci', '--name', 'n', '--disk', 'vda'], '--disk goes with a layout'],
    [['restore', 'web', '--to-device', '/dev/x'], '--to-device needs --disk'],
    [['restore', 'web', '--to-device', '/dev/x', '--disk', 'vda', '--name', 'n'], '--name goes with --to'],
    [['restore', 'web', '--to', '/x', '--name', '../evil'], "'../evil' is invalid"],
    [['restore', 'web', '--to-device', '/dev/x', '--disk', 'vda; rm'], 'a disk has a name'],
    [['redeploy', 'web', '--name', 'n'], '--target <profile>'],
    [['redeploy', 'web', '--target', 'nvme'], '--name <name>'],
    [['redeploy', 'web', '--name', 'n', '--target', '/nowhere/p.json'], 'no hardware profile file /nowhere/p.json'],
    [['verify', 'web', '--point', 'yesterday'], "'yesterday' is not a PointId"],
    [['verify', 'web', '--level', 'deep'], 'present, ciphertext, content'],
    [['verify', 'web', '--timeout', '0'], 'whole seconds'],
    [['verify', 'web', '--timeout', '1e3'], 'whole seconds'],
    [['verify', 'web', '--ready', '('], 'Invalid regular expression'],
    [['backup'], "missing required argument 'machine'"],
    [['backup', ''], 'not by nothing'],
    [['backup', 'a\u001b[2J'], 'control characters'],
    [['backup', 'x'.repeat(256)], 'at most 255'],
    [['backup', 'a', 'b'], 'too many arguments'],
    [['backup', 'a', '--fast'], "unknown option '--fast'"],
    [['bakcup', 'a'], 'Did you mean backup'],
    [['repo', 'init', '--chunk-size', '3MiB'], 'power of two'],
    [['repo', 'init', '--chunk-size', '1MiB', '--add-tenant', 'b'], 'of the whole repository'],
    [['repo', 'keys', 'add', '--label', 'x'], 'say one of --key-file'],
    [['repo', 'keys', 'add', '--label', 'x', '--key-file', 'a', '--kms-key', 'b'], 'say one of --key-file'],
    [['repo', 'keys', 'remove', 'first'], '16 hexadecimal digits'],
    [['repo', 'keys', 'shred'], '--confirm'],
    [['repo', 'copy'], '--to <place>'],
    [['repo', 'policy', 'set'], 'say what is kept'],
    [['repo', 'policy', 'set', '--daily', '7', '--keep-everything'], 'say what is kept'],
    [['repo', 'policy', 'set', '--daily', '0'], 'nothing but zeros'],
    [['repo', 'policy', 'set', '--daily', '-1'], 'a whole number'],
    [['repo', 'policy', 'set', '--daily', '100001'], 'a whole number'],
    [['repo', 'policy', 'guard'], 'say --four-eyes'],
    [['repo', 'policy', 'guard', '--delay', '5'], 'a time such as 30m'],
    [['repo', 'policy', 'guard', '--delay', '366d'], 'at most 365d'],
    [['repo', 'hold', 'add'], "missing required argument 'machine'"],
    [['repo', 'hold', 'add', 'web', '--reason', 'x'.repeat(256)], 'at most 255 bytes'],
    [['repo', 'hold', 'lift', '0'], 'a number from 1'],
    [['repo', 'prune-point', 'web'], "missing required argument 'point'"],
    [['repo', 'prune-vanished'], "missing required argument 'machine'"],
  ])('refuses %j', async (args, message) => {
    await expect(parse(...args)).rejects.toThrow(message);
  });

  it('takes what is done to the repository', async () => {
    expect((await parse('repo', 'init', '--chunk-size', '256KiB', '--label', 'me', '--json')).calls).toEqual([
      ['repo', { kind: 'init', chunkSizeBytes: 262_144, label: 'me' }, { json: true, quiet: false }],
    ]);
    const added = await parse('repo', 'keys', 'add', '--label', 'vault', '--kms-key', 'k1');
    expect(added.calls).toEqual([
      ['repo', { kind: 'keys-add', label: 'vault', way: { kind: 'kms', keyRef: 'k1' } }, GLOBAL],
    ]);
  });

  it('takes where a key on paper is to go', async () => {
    expect((await parse('repo', 'keys', 'print', '--label', 'safe')).calls).toEqual([
      ['repo', { kind: 'keys-print', label: 'safe' }, GLOBAL],
    ]);
    expect((await parse('repo', 'keys', 'print', '--label', 'safe', '--output', 'k.html')).calls).toEqual([
      ['repo', { kind: 'keys-print', label: 'safe', output: join(process.cwd(), 'k.html') }, GLOBAL],
    ]);
    expect((await parse('repo', 'keys', 'add', '--label', 'x', '--paper-file', '/p')).calls).toEqual([
      ['repo', { kind: 'keys-add', label: 'x', way: { kind: 'paper-file', path: '/p' } }, GLOBAL],
    ]);
    await expect(parse('repo', 'keys', 'print')).rejects.toThrow('--label');
  });

  it('takes agents to enrol, list and revoke', async () => {
    const actionOf = async (...args: string[]): Promise<unknown> =>
      (await parse('repo', 'agents', ...args)).calls[0]?.[1];
    expect(await actionOf('enrol', 'host-7', '--machine', 'web', '--machine', 'db', '--out', '/a')).toEqual({
      kind: 'agents-enrol',
      name: 'host-7',
      machines: ['web', 'db'],
      validDays: 730,
      output: '/a',
    });
    expect(await actionOf('enrol', 'h', '--machine', 'web', '--out', 'a', '--days', '30')).toMatchObject({
      validDays: 30,
      output: join(process.cwd(), 'a'),
    });
    expect(await actionOf('list')).toEqual({ kind: 'agents-list' });
    expect(await actionOf('revoke', 'host-7', '--reason', 'stolen')).toEqual({
      kind: 'agents-revoke',
      agent: 'host-7',
      reason: 'stolen',
    });
    const point = 'p20261124T001122Z-9f86d081';
    expect((await parse('repo', 'keys', 'grant', 'web', point, '--out', '/k')).calls[0]?.[1]).toEqual({
      kind: 'keys-grant',
      machine: 'web',
      point,
      output: '/k',
    });
    await expect(parse('repo', 'keys', 'grant', 'web', point)).rejects.toThrow('--out');
    await expect(parse('repo', 'keys', 'grant', 'web', 'x', '--out', '/k')).rejects.toThrow('lifeboat points');
    await expect(parse('repo', 'agents', 'enrol', 'h', '--machine', 'web')).rejects.toThrow('--out');
    await expect(parse('repo', 'agents', 'enrol', 'h', '--out', 'a')).rejects.toThrow('--machine');
    await expect(parse('repo', 'agents', 'enrol', 'h', '--machine', 'w', '--out', 'a', '--days', '0')).rejects.toThrow(
      'from 1',
    );
    await expect(parse('repo', 'agents', 'revoke', '../x')).rejects.toThrow('use letters');
    const arn = 'arn:aws:iam::123456789012:user/host-7';
    expect(await actionOf('policy', arn)).toEqual({ kind: 'agents-policy', principal: arn });
    await expect(parse('repo', 'agents', 'policy', '*')).rejects.toThrow('an ARN');
  });

  it('takes policies, holds and requests', async () => {
    const actionOf = async (...args: string[]): Promise<unknown> => (await parse('repo', ...args)).calls[0]?.[1];
    expect(await actionOf('policy', 'set', 'web', '--last', '3', '--daily', '0', '--zone', 'Europe/Berlin')).toEqual({
      kind: 'policy-set',
      machine: 'web',
      rules: { last: 3, daily: 0, zone: 'Europe/Berlin' },
      reason: '',
    });
    expect(await actionOf('policy', 'set', '--keep-everything')).toMatchObject({ rules: {} });
    expect(await actionOf('policy', 'set', 'web', '--remove')).toMatchObject({ rules: undefined });
    expect(await actionOf('policy', 'guard', '--four-eyes')).toEqual({
      kind: 'policy-guard',
      fourEyes: true,
      reason: '',
    });
    expect(await actionOf('policy', 'guard', '--no-four-eyes', '--delay', '7d')).toMatchObject({
      fourEyes: false,
      delayMs: 604_800_000,
    });
    expect(await actionOf('hold', 'add', 'web', '--point', POINT, '--reason', 'case 17')).toEqual({
      kind: 'hold-add',
      machine: 'web',
      point: POINT,
      reason: 'case 17',
    });
    expect(await actionOf('requests', 'approve', '12')).toEqual({ kind: 'requests-approve', request: 12, reason: '' });
    expect(await actionOf('prune-vanished', 'web', '--dry-run', '--reason', 'lost')).toEqual({
      kind: 'prune-vanished',
      machine: 'web',
      dryRun: true,
      reason: 'lost',
    });
    expect(await actionOf('prune', '--dry-run')).toEqual({
      kind: 'prune',
      dryRun: true,
      compact: { includeLocked: false },
    });
    expect(await actionOf('prune', '--no-compact')).toEqual({ kind: 'prune', dryRun: false });
    expect(await actionOf('prune', '--max-rewrite', '2TiB', '--compact-locked')).toEqual({
      kind: 'prune',
      dryRun: false,
      compact: { includeLocked: true, maxRewriteBytes: 2 ** 41 },
    });
  });

  it.each([
    'prune-point',
    'prune-vanished',
    'policy show',
    'policy set',
    'policy guard',
    'policy write-off',
    'hold add',
    'hold list',
    'hold lift',
    'requests list',
    'requests approve',
    'requests withdraw',
    'init',
    'info',
    'stats',
    'check',
    'prune',
    'copy',
    'keys list',
    'keys add',
    'keys print',
    'keys remove',
    'keys rotate',
    'keys shred',
  ])('has help with an example for repo %s', async (name) => {
    const { out } = await parse('repo', ...name.split(' '), '--help');
    expect(out).toContain(`Example:\n  lifeboat repo ${name}`);
    expect(out).toContain('Exit codes:');
  });

  it.each(['demo', 'up', 'backup', 'points', 'evidence', 'locks', 'verify', 'restore', 'redeploy'])(
    'has help with an example for %s',
    async (name) => {
      const { out } = await parse(name, '--help');
      expect(out).toContain(`Example:\n  lifeboat ${name}`);
      expect(out).toContain('Exit codes:');
    },
  );
});
