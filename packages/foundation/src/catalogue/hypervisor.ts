import type { Catalogue } from './entry.ts';

export const hypervisorErrors = {
  'hypervisor.no-such-machine': {
    retry: 'permanent',
    cause: 'The hypervisor knows no machine of this name or UUID.',
    impact: 'Nothing was started and nothing was changed; recovery points of a machine that is gone stay readable.',
    next: 'List the machines with `virsh list --all` and correct the name; a removed machine can be restored as a new one.',
  },
  'hypervisor.bad-xml': {
    retry: 'permanent',
    cause: 'A definition that libvirt gave does not parse, or is larger than any definition should be.',
    impact: 'The machine or job it describes was left alone.',
    next: 'Look at it with `virsh dumpxml`; keep it and the message and report it with the libvirt version.',
  },
  'hypervisor.unsupported-disk': {
    retry: 'permanent',
    cause:
      'The machine has a disk that is neither a file nor a block device of this host, or of an image format other than qcow2 and raw.',
    impact: 'The machine is not backed up: a recovery point without one of its disks would be a trap.',
    next: 'Move the disk named in the message to a qcow2 file or a block device, or detach it if it need not be protected.',
  },
  'hypervisor.disk-unreadable': {
    retry: 'permanent',
    cause: 'The image of a disk is missing, or cannot be opened by this process.',
    impact: 'The machine cannot be described or backed up; a running guest is not affected.',
    next: 'Check that the file named in the message exists and that Lifeboat runs as a user who may read it (usually root).',
  },
  'hypervisor.backup-running': {
    retry: 'transient',
    cause: 'A backup job runs on this machine already, of another operation or another program.',
    impact: 'No new job was begun and the running one was not touched.',
    next: 'Wait for it to end (`virsh domjobinfo`); if nobody owns it any more, end it with `virsh domjobabort`.',
  },
  'hypervisor.no-backup-job': {
    retry: 'permanent',
    cause: 'The backup job that was to be continued is gone: the machine stopped, or somebody aborted the job.',
    impact: 'Its instant is lost; nothing that was committed before is affected.',
    next: 'Start the backup again: it takes a new instant, and what was stored already is reused.',
  },
  'hypervisor.bad-directory': {
    retry: 'permanent',
    cause: 'The directory for sockets and scratch files does not exist, or its path is too long for a unix socket.',
    impact: 'No backup job was begun.',
    next: 'Use a state directory with a shorter path, such as /var/lib/lifeboat, that QEMU may write to.',
  },
  'hypervisor.export-failed': {
    retry: 'transient',
    cause: 'The image of a shut-off machine could not be exported: qemu-nbd ended, or did not listen in time.',
    impact: 'No recovery point was made; the image was only opened for reading.',
    next: 'Read what qemu-nbd says in the message. If the machine is being started, try again when it runs.',
  },
  'hypervisor.unsupported-shape': {
    retry: 'permanent',
    cause: 'The hardware that was asked for cannot be emulated together on this host.',
    impact: 'No machine was created.',
    next: 'Choose another hardware profile, or correct the one named in the message.',
  },
  'hypervisor.no-firmware': {
    retry: 'permanent',
    cause:
      "The machine's UEFI variables were kept by a firmware for flash of another size than this host's: an older or newer build.",
    impact: 'The machine was not started or defined here; its recovery point and restored disks are not affected.',
    next: 'Install that build of OVMF (Debian package `ovmf`, also of an older release), or restore the disks alone and define the machine yourself; it then starts with new variables.',
  },
  'hypervisor.name-taken': {
    retry: 'permanent',
    cause: 'A network or machine of this name exists and is not of this operation.',
    impact: 'It was not touched, and nothing was created.',
    next: 'Remove it, or choose another name.',
  },
  'hypervisor.no-screen': {
    retry: 'permanent',
    cause: 'The screen of the machine could not be read as an image.',
    impact: 'The evidence has no screenshot; the machine itself runs on.',
    next: 'Check that the machine has a video device; report the message with the libvirt and QEMU versions.',
  },
  'hypervisor.guest-command-timeout': {
    retry: 'transient',
    cause: 'A command that was started through the guest agent did not end in time.',
    impact: 'The command may still run in the guest.',
    next: 'Give it more time, or look in the guest what it waits for.',
  },
} as const satisfies Catalogue;
