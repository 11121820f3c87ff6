import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: [
            '{packages/*,workflows,activities,worker,agent,cli}/src/**/*.test.ts',
            'test/{unit,format-vectors}/**/*.test.ts',
          ],
          pool: 'forks',
          testTimeout: 30_000,
        },
      },
      {
        test: {
          // Stops QEMU: libvirt's one thread for block job events then keeps every other machine waiting, too.
          name: 'alone',
          include: ['test/alone/**/*.test.ts'],
          pool: 'forks',
          maxWorkers: 1,
          testTimeout: 600_000,
          hookTimeout: 600_000,
        },
      },
      {
        test: {
          // The processor's work alone: two files at a time on two cores.
          name: 'simulation',
          include: ['test/simulation/**/*.test.ts'],
          pool: 'forks',
          maxWorkers: 2,
          testTimeout: 2_400_000,
        },
      },
      {
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          pool: 'forks',
          // Guests are slow under software emulation, and two cores hold two of them.
          maxWorkers: 2,
          testTimeout: 600_000,
          hookTimeout: 600_000,
        },
      },
    ],
  },
});
