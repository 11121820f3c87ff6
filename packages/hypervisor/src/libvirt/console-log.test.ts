import { describe, expect, test } from 'vitest';
import { ConsoleLog, RETAINED_BYTES } from './console-log.ts';

async function all(log: ConsoleLog): Promise<string> {
  let text = '';
  for await (const bytes of log.read()) text += Buffer.from(bytes).toString('latin1');
  return text;
}

describe('the console log', () => {
  test('gives every reader everything, early or late', async () => {
    const log = new ConsoleLog();
    const early = all(log);
    log.append(Buffer.from('one '));
    const midway = all(log);
    log.append(Buffer.from('two '));
    log.append(Buffer.from('three'));
    log.end();
    expect(await Promise.all([early, midway, all(log)])).toEqual(Array.from({ length: 3 }, () => 'one two three'));
  });

  test('a reader that waits is woken by the end', async () => {
    const log = new ConsoleLog();
    const reading = all(log);
    await Promise.resolve();
    log.end();
    expect(await reading).toBe('');
  });

  test('a failure comes after what was said before it', async () => {
    const log = new ConsoleLog();
    log.append(Buffer.from('last words'));
    log.end(new Error('libvirt went away'));
    const reader = log.read();
    expect((await reader.next()).value).toEqual(Buffer.from('last words'));
    await expect(reader.next()).rejects.toThrow('libvirt went away');
  });

  test('keeps the newest, and says what it did not keep', async () => {
    const log = new ConsoleLog();
    const chunk = Buffer.alloc(1024 * 1024, 'x');
    for (let count = 0; count < RETAINED_BYTES / chunk.length + 3; count += 1) log.append(chunk);
    log.end();
    const text = await all(log);
    expect(text).toMatch(/^\r\n\[lifeboat: 3145728 bytes of console output were not kept\]\r\nx+$/);
    expect(text.length).toBeLessThan(RETAINED_BYTES + 100);
  });

  test('a reader that falls behind while it reads goes on at the oldest that is left', async () => {
    const log = new ConsoleLog();
    log.append(Buffer.from('first'));
    const reader = log.read();
    await reader.next();
    for (let count = 0; count < 9; count += 1) log.append(Buffer.alloc(1024 * 1024, 'y'));
    expect(Buffer.from((await reader.next()).value ?? []).toString()).toContain('1048576 bytes');
  });
});
