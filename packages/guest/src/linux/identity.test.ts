import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { GuestTree } from '../access/guest-tree.ts';
import { applyEdits } from '../inject/apply-edits.ts';
import { giveIdentity } from '../plan/give-identity.ts';
import type { RedeployPlan } from '../plan/redeploy-plan.ts';
import { readIdentityFiles } from './identity.ts';

let base: string;
let root: string;
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'identity-'));
  root = join(base, 'root');
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

function put(path: string, text: string, mode = 0o644): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text, { mode });
}
const text = (path: string): string => readFileSync(join(root, path), 'utf8');

it('a copy gets ids, keys and leases of its own, and nothing else changes', async () => {
  put('etc/machine-id', 'b08dfa6083e7567a1921a715000001fb\n');
  put('etc/ssh/ssh_host_ed25519_key', 'of the original', 0o600);
  put('etc/ssh/ssh_host_ed25519_key.pub', 'of the original');
  put('etc/ssh/ssh_host_ecdsa_key', 'of the original', 0o600);
  put('etc/ssh/ssh_host_dsa_key', 'of the original', 0o600);
  put('etc/ssh/sshd_config', 'Port 22');
  put('var/lib/dhcp/dhclient.eth0.leases', 'lease');
  put('var/lib/systemd/random-seed', 'seed');
  put('var/lib/systemd/timers/stamp', '');
  mkdirSync(join(root, 'var/lib/dbus'));
  symlinkSync('/etc/machine-id', join(root, 'var/lib/dbus/machine-id'));
  const tree = new GuestTree([{ mountPoint: '/', hostPath: root }]);

  const warnings: string[] = [];
  const edits = giveIdentity({ identityFiles: await readIdentityFiles(tree), fstab: [] }, warnings);
  const plan = { edits, profile: { name: 'nvme' } } as unknown as RedeployPlan;
  const context = { signal: new AbortController().signal, progress: () => {} };
  const applied = await applyEdits(tree, plan, { nowMs: 0, directory: base, context });
  expect(warnings).toEqual([]);
  expect(applied.edits.map(({ path }) => path)).toEqual([
    '/etc/machine-id',
    '/etc/ssh/ssh_host_dsa_key',
    '/etc/ssh/ssh_host_ecdsa_key',
    '/etc/ssh/ssh_host_ed25519_key',
    '/etc/ssh/ssh_host_ed25519_key.pub',
    '/var/lib/systemd/random-seed',
    '/var/lib/dhcp/dhclient.eth0.leases',
  ]);
  expect(text('etc/machine-id')).toBe('');
  const key = join(root, 'etc/ssh/ssh_host_ed25519_key');
  expect(statSync(key).mode & 0o777).toBe(0o600);
  const derived = execFileSync('ssh-keygen', ['-y', '-f', key], { encoding: 'utf8' });
  expect(derived.trim()).toBe(text('etc/ssh/ssh_host_ed25519_key.pub').trim());
  expect(derived).toMatch(/^ssh-ed25519 /);
  expect(readdirSync(join(root, 'etc/ssh'))).toEqual([
    'ssh_host_ecdsa_key',
    'ssh_host_ed25519_key',
    'ssh_host_ed25519_key.pub',
    'sshd_config',
  ]);
  expect(readdirSync(base)).toEqual(['root']);
});

it('what lies on a filesystem that is not opened is told', () => {
  const warnings: string[] = [];
  const fstab = [{ line: 1, source: 'UUID=x', mountPoint: '/var', type: 'ext4', options: [] }];
  expect(giveIdentity({ identityFiles: [], fstab }, warnings)).toEqual([]);
  expect(warnings).toEqual([expect.stringContaining('/var of the guest')]);
});
