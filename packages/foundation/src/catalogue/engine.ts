import type { Catalogue } from './entry.ts';

export const engineErrors = {
  'engine.inventory-late': {
    retry: 'transient',
    cause: 'Looking at what is inside the disks took longer than reading them, and a backup does not wait for it.',
    impact:
      'The point is whole and restores as ever; it only brings no inventory. "lifeboat inspect" takes one from the point when asked.',
    next: 'Nothing need be done. If it stays so, the host is overloaded during backups.',
  },
  'engine.not-isolated': {
    retry: 'permanent',
    cause:
      'Something outside answered a guest of a boot test, whose network leads nowhere: QEMU does not hold what it promises, or was replaced.',
    impact: 'The guest was stopped, and nothing is said of the point. It may have met the machine it is a copy of.',
    next: 'Do not run boot tests on this host until it is understood; the message names the file with the packets.',
  },
  'engine.capture-unusable': {
    retry: 'transient',
    cause: 'QEMU did not write down what a guest sent on its isolated network as it should have.',
    impact: 'The guest was stopped, and nothing is said of the point: that it stayed alone could not be shown.',
    next: 'Check the space and the storage of the state directory, then start again.',
  },
  'engine.no-memory': {
    retry: 'transient',
    cause: 'The host has not enough memory for another guest beside those that boot tests run on it now.',
    impact: 'The guest was not started; nothing is said of the point. It is tried again.',
    next: 'Wait, or run fewer boot tests at once. A machine that is larger than the host cannot be started on it.',
  },
  'engine.no-disk': {
    retry: 'permanent',
    cause: 'The machine has no disk of a kind that can be backed up (CD-ROMs, floppies and empty drives do not count).',
    impact: 'Nothing was backed up.',
    next: 'Look at the machine with `virsh domblklist MACHINE`; give it a file or block disk, or name another machine.',
  },
  'engine.machine-busy': {
    // Such a job takes minutes to hours, and whoever waits for this backup should decide.
    retry: 'permanent',
    cause: 'A backup job runs on the machine already; a hypervisor runs one at a time.',
    impact: 'This backup did not begin. The job that runs is not touched.',
    next: 'Wait for it to end, or end it with the program that began it (`virsh domjobinfo MACHINE` shows it), then start again.',
  },
  'engine.no-such-point': {
    retry: 'permanent',
    cause:
      'The machine or the recovery point is not in this repository: a typing error, another repository, or never backed up.',
    impact: 'Nothing was started.',
    next: '`lifeboat points` lists what is there.',
  },
  'engine.ambiguous-machine': {
    retry: 'permanent',
    cause: 'Several machines had the same name when they were backed up.',
    impact: 'Nothing was started, because the wrong one could have been meant.',
    next: 'Name the machine by its id; `lifeboat points` shows it.',
  },
  'engine.newer-point': {
    retry: 'permanent',
    cause: 'The recovery point was written by a newer release of Lifeboat than this one.',
    impact: 'This release does not use the point; the point itself is not affected.',
    next: 'Use the newer release.',
  },
  'engine.target-exists': {
    retry: 'permanent',
    cause: 'There is a file already where a disk would be restored to.',
    impact: 'Nothing was written; the file is not touched.',
    next: 'Choose another name or directory, or move the file away yourself.',
  },
  'engine.target-too-small': {
    retry: 'permanent',
    cause: 'The target is smaller than the disk in the recovery point.',
    impact: 'Nothing was written.',
    next: 'Choose a target at least as large as the message says.',
  },
  'engine.target-in-use': {
    retry: 'permanent',
    cause:
      'The target is mounted, a machine that is on runs from it under this or another name, or that cannot be told.',
    impact: 'Nothing was written.',
    next: 'Check that it is the right target (`lsblk`); unmount or release it, or stop the machine the message names, then restore again.',
  },
  'engine.target-ambiguous': {
    retry: 'permanent',
    cause:
      'The target was named by serial number, world wide name or size, and not exactly one disk of this host is that.',
    impact: 'Nothing was written.',
    next: '`lsblk -o NAME,SIZE,SERIAL,WWN` lists the disks; name the target by what only it has, or by its path.',
  },
  'engine.target-changed': {
    retry: 'permanent',
    cause: 'Between the plan and the first write another disk came to have this name, or the disk was exchanged.',
    impact: 'Nothing was written.',
    next: 'Look which disk is which (`lsblk -o NAME,SIZE,SERIAL,WWN`), name the target by its serial number, and start again.',
  },
  'engine.export-failed': {
    retry: 'transient',
    cause: 'The process that serves a recovery point to the hypervisor did not start or ended early.',
    impact: 'The boot test or comparison did not happen; the recovery point is not affected.',
    next: 'Read the log named in the message; then start again.',
  },
  'engine.bad-ready-pattern': {
    retry: 'permanent',
    cause: 'The pattern that says when a guest is ready is not a regular expression.',
    impact: 'Nothing was started.',
    next: 'Correct the pattern; plain text such as "login:" is a valid one.',
  },
  'engine.name-taken': {
    retry: 'permanent',
    cause: 'A machine of this name exists on the hypervisor already.',
    impact: 'The restored disks are there; the machine was not defined.',
    next: 'Choose another name, or undefine the machine that has it (`virsh undefine NAME`).',
  },
} as const satisfies Catalogue;
