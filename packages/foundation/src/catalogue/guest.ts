import type { Catalogue } from './entry.ts';

export const guestErrors = {
  'guest.profile-invalid': {
    retry: 'permanent',
    cause:
      'The hardware profile is not of the form Lifeboat reads: a key is unknown or missing, or a value has the wrong type.',
    impact: 'No plan was made and nothing was changed.',
    next: 'Correct the place the message names; packages/guest/profiles holds profiles to copy from.',
  },
  'guest.profile-not-found': {
    retry: 'permanent',
    cause: 'There is no shipped hardware profile of this name, or the file cannot be read.',
    impact: 'No plan was made and nothing was changed.',
    next: 'Choose one of the shipped profiles the message lists, or give the path of a JSON file that this account may read.',
  },
  'guest.driver-catalogue-invalid': {
    retry: 'permanent',
    cause:
      'The catalogue of driver packages was changed after it was signed, is signed by another key, or its key is gone.',
    impact:
      'No driver of the store is used: one that somebody slipped in would run in the kernel of every redeployed machine.',
    next: 'Put catalogue and signing key back from a copy; or move the folder of drivers aside and add the packages again.',
  },
  'guest.driver-package-unusable': {
    retry: 'permanent',
    cause: 'What was given holds no driver for Windows, cannot be unpacked, or is far larger than driver packages are.',
    impact: 'Nothing was added to the store.',
    next: "Give the folder that holds the driver's .inf, .sys and .cat files, or the vendor's zip, cab or ISO; a setup program has to be unpacked first.",
  },
  'guest.inf-invalid': {
    retry: 'permanent',
    cause: 'A file with the ending .inf is not one that Windows would install a driver from.',
    impact: 'The package it belongs to was not added; nothing else was changed.',
    next: "Look at the place the message names; give the folder that holds the driver's .inf, .sys and .cat files, as the vendor ships them.",
  },
  'guest.hardware-list-invalid': {
    retry: 'permanent',
    cause:
      'No hardware profile can be made of what was given: it lists no PCI device with its numbers, or none that a machine starts from.',
    impact: 'No profile was made and nothing was changed.',
    next: 'On the target machine run "lspci -nn -D" (better "lspci -nnk -D", which also tells subsystems) and give its whole output.',
  },
  'guest.path-unusable': {
    retry: 'permanent',
    cause:
      'A file of the guest is missing, is not a regular file, is far larger than such a file can be, or hides behind too many links.',
    impact: 'The image was not changed.',
    next: 'Look at the path in the source machine; mend it there and back the machine up again.',
  },
  'guest.filesystem-twin': {
    retry: 'permanent',
    cause: 'The kernel of this host mounts no two btrfs filesystems of one UUID; a copy has that of its original.',
    impact: 'The restored disks were not compared with their recovery point; neither was changed.',
    next: 'Compare on a host with Linux 6.7 or later, which mounts both; a boot test shows here already whether the machine starts.',
  },
  'guest.no-space': {
    retry: 'permanent',
    cause: 'A filesystem inside the guest has no room for the drivers.',
    impact: 'The edit was thrown away; the disks are as they were before.',
    next: 'Free space in the source machine (old kernels fill /boot) and back it up again, or choose an earlier point.',
  },
  'guest.module-tables-damaged': {
    retry: 'permanent',
    cause: 'The files depmod writes for a kernel (modules.dep, modules.alias) are damaged.',
    impact: 'No driver can be chosen for that kernel; the image was not changed.',
    next: 'Run depmod for that kernel in the source machine, or reinstall the kernel package, and back the machine up again.',
  },
  'guest.module-missing': {
    retry: 'permanent',
    cause: "The guest's index of modules names a file that is not there: the kernel package is incomplete.",
    impact: 'The edit was thrown away; the disks are as they were before.',
    next: 'Reinstall the kernel package in the source machine and back it up again.',
  },
  'guest.initrd-damaged': {
    retry: 'permanent',
    cause: 'An initrd of the guest cannot be unpacked: it is truncated or its content is wrong.',
    impact: 'The kernel it belongs to could not start from it either; the image was not changed.',
    next: 'Rebuild it in the source machine (update-initramfs -u) and back the machine up again, or choose an earlier point.',
  },
  'guest.initrd-compression-unknown': {
    retry: 'permanent',
    cause: 'An initrd of the guest is compressed in a way Lifeboat does not unpack (it knows gzip, zstd, xz and lz4).',
    impact: 'What is inside cannot be told, so no driver is added; the image was not changed.',
    next: 'Set one of the known compressions in the source machine, rebuild the initrd and back the machine up again.',
  },
  'guest.no-root': {
    retry: 'permanent',
    cause: 'None of the disks holds a Linux root filesystem or a Windows that can be recognised.',
    impact: 'The image was not changed; it can still be restored as it is.',
    next: 'Check that all disks of the machine were given. Systems other than Linux and Windows cannot be redeployed.',
  },
  'guest.several-roots': {
    retry: 'permanent',
    cause: 'The disks hold more than one Linux system, and it cannot be told which one is meant.',
    impact: 'The image was not changed.',
    next: 'Redeploy with only the disks of the system that is meant.',
  },
  'guest.layout-unsupported': {
    retry: 'permanent',
    cause: 'The system lies inside a container (LVM, LUKS, RAID) or on a filesystem that Lifeboat cannot open yet.',
    impact: 'Nothing can be inspected or edited; the image was not changed and can still be restored as it is.',
    next: 'Restore to hardware like that of the source, where no driver has to be added.',
  },
  'guest.mount-failed': {
    retry: 'permanent',
    cause:
      'The kernel of this host cannot mount a filesystem of the guest: it is damaged, or uses features this kernel lacks.',
    impact: 'The image was not changed.',
    next: 'Read what mount says in the message; check the filesystem in the source machine, or use a host with a newer kernel.',
  },
  'guest.filesystem-unreadable': {
    retry: 'permanent',
    cause:
      'A filesystem of the guest could not be read without mounting it: it is damaged, or has features that are not read this way.',
    impact: 'The inventory says less about the machine; nothing was changed.',
    next: 'Nothing need be done for the inventory. If the filesystem may be damaged, check it in the source machine.',
  },
  'guest.hive-unreadable': {
    retry: 'permanent',
    cause: 'A registry hive of the guest is damaged, or is no hive.',
    impact: 'What it holds cannot be told, and it is not edited; nothing was changed.',
    next: 'Check the disk of the source machine (chkdsk), see that Windows starts there, and back it up again; or choose an earlier point.',
  },
  'guest.hive-dirty': {
    retry: 'permanent',
    cause:
      'A registry hive of the guest was not written to its end, as it is while Windows runs, and its logs do not bring it up to date.',
    impact: 'Windows might put older state over an edit, so it is not edited; nothing was changed.',
    next: 'Shut the source machine down completely and back it up again, or choose a point that was taken while it was off.',
  },
  'guest.filesystem-damaged': {
    retry: 'permanent',
    cause: 'A filesystem of the guest does not pass a read-only check, even after its journal was replayed.',
    impact: 'The edit was thrown away; the disks are as they were before.',
    next: 'If the message says "before": check the filesystem in the source machine and choose an earlier point. If it says "after": keep the message and report it.',
  },
  'guest.redeploy-refused': {
    retry: 'permanent',
    cause: 'The plan found a reason why the machine would not start on the target hardware.',
    impact: 'Nothing was changed.',
    next: 'Each reason in the message says what would help.',
  },
  'guest.changed-since-plan': {
    retry: 'permanent',
    cause: 'The disk is not the one the plan was made for, or somebody wrote to it since.',
    impact: 'The edit was thrown away; the disks are as they were before.',
    next: 'Make sure that the right disks are given and no machine runs from them, then plan again.',
  },
  'guest.injection-incomplete': {
    retry: 'permanent',
    cause: 'What was written into the guest is not what was read back from it.',
    impact: 'The edit was thrown away; the disks are as they were before.',
    next: 'Check the storage of this host, then try again; if it happens again, keep the message and report it.',
  },
  'guest.journal-missing': {
    retry: 'permanent',
    cause: 'There is no journal in this directory, or the edit stopped before its journal was complete.',
    impact: 'There is nothing to apply or to take back: the disks were not written to.',
    next: 'Check the directory. It is the one the report of the redeploy names.',
  },
  'guest.journal-damaged': {
    retry: 'permanent',
    cause: 'The journal of an edit does not match its checksums.',
    impact: 'It was not used. If the edit was under way, the disks may hold a part of it.',
    next: 'Check the storage of this host; restore the machine from its recovery point again.',
  },
  'guest.journal-mismatch': {
    retry: 'permanent',
    cause: 'The disk does not hold what the journal says, or is not the one it was written for.',
    impact: 'Nothing more was written to it.',
    next: 'Check the path. If the disk was replaced since, there is nothing to take back on it; else check the storage of this host.',
  },
  'guest.journal-changed-since': {
    retry: 'permanent',
    cause: 'Something was written to edited places since the edit; mostly a machine was started from the disk.',
    impact: 'Nothing was written to it.',
    next: 'Stop the machine, then put the edited files back through the filesystem: `lifeboat redeploy revert ID --files`. To have the old bytes there all the same, which damages a filesystem that was mounted since: `--overwrite`.',
  },
  'guest.files-changed-since': {
    retry: 'permanent',
    cause: 'Files that the edit wrote were changed since, by the machine or by a person.',
    impact: 'Nothing was written; the disks are as they were.',
    next: 'Look at the files in the machine. To have the old ones all the same, and lose what was changed: `--overwrite`.',
  },
  'guest.no-originals': {
    retry: 'permanent',
    cause:
      'Of this edit blocks were kept, and not the files they belong to: it is one of Windows, or of an earlier version.',
    impact: 'Nothing was written; the disks are as they were.',
    next: 'If no machine ran from the disks, take the edit back without `--files`; else restore the point again.',
  },
  'guest.journal-too-big': {
    retry: 'permanent',
    cause: 'The edit changed far more of the disk than drivers can account for.',
    impact: 'The edit was thrown away; the disks are as they were before.',
    next: 'Keep the message and report it.',
  },
} as const satisfies Catalogue;
