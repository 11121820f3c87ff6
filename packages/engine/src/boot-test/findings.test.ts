import { describe, expect, it } from 'vitest';
import { PlainText, recognise } from './findings.ts';

const ready = /GUEST-BOOT-OK/;
const on = (console: string, screen = '') => recognise({ console, screen }, ready)?.finding;

describe('recognise', () => {
  it('says nothing while a guest is still on its way', () => {
    expect(on('')).toBeUndefined();
    expect(on('Booting from Hard Disk...\nLoading Linux ...\n')).toBeUndefined();
    // The word alone, as in a help text or a package name, is no prompt.
    expect(on('see the (initramfs) manual, or grub rescue> in the docs')).toBeUndefined();
  });

  it.each([
    ['ready', 'x\nGUEST-BOOT-OK 12.1 root=/dev/vda2\n', ''],
    ['grub-rescue', '', 'error: unknown filesystem.\nEntering rescue mode...\ngrub rescue> \n'],
    ['grub-rescue', 'GNU GRUB  version 2.06\n\ngrub> ', ''],
    ['initramfs-shell', 'ALERT!  UUID=ab-c does not exist.  Dropping to a shell!\n', ''],
    ['initramfs-shell', 'BusyBox v1.35\n\n(initramfs) ', ''],
    ['kernel-panic', '[ 3.1] Kernel panic - not syncing: VFS: Unable to mount root fs\n', ''],
    ['no-boot-device', '', 'Booting from Hard Disk...\nBoot failed: not a bootable disk\n\nNo bootable device.\n'],
  ])('finds %s', (finding, console, screen) => {
    expect(on(console, screen)).toBe(finding);
  });

  it('lets the ready pattern win over an old panic in the log', () => {
    expect(on('last boot: Kernel panic - not syncing: x\nGUEST-BOOT-OK\n')).toBe('ready');
  });

  it('carries the detail of the sign', () => {
    const found = recognise({ console: 'ALERT!  UUID=ab does not exist.  Dropping to a shell!', screen: '' }, ready);
    expect(found?.explanation).toContain('UUID=ab does not exist');
  });
});

describe('PlainText', () => {
  const console = Buffer.from('\u001b[2J\u001b[01;01Hgrub rescue>\r\n\u0007ok\u001b(B\r\nend\r\n', 'latin1');

  it('removes escapes and keeps lines, wherever the chunks are cut', () => {
    for (let first = 0; first <= console.length; first++) {
      for (let second = first; second <= console.length; second++) {
        const text = new PlainText();
        const parts = [console.subarray(0, first), console.subarray(first, second), console.subarray(second)];
        expect(parts.map((part) => text.push(part)).join('')).toBe('grub rescue>\nok\nend\n');
      }
    }
  });

  it('does not wait for ever for the end of an escape that never comes', () => {
    const text = new PlainText();
    expect(text.push(Buffer.from(`\u001b[${'1'.repeat(100)}`, 'latin1'))).toContain('111');
  });
});
