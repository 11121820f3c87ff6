/** Partition types by their names, as far as machines of today have them. Sources: UEFI, systemd's discoverable partitions, fdisk. */
const NAMES: Readonly<Record<string, string>> = {
  'c12a7328-f81f-11d2-ba4b-00a0c93ec93b': 'EFI system',
  '21686148-6449-6e6f-744e-656564454649': 'BIOS boot',
  '0fc63daf-8483-4772-8e79-3d69d8477de4': 'Linux',
  '4f68bce3-e8cd-4db1-96e7-fbcaf984b709': 'Linux root',
  'b921b045-1df0-41c3-af44-4c6f280d3fae': 'Linux root (ARM)',
  'bc13c2ff-59e6-4262-a352-b275fd6f7172': 'Linux extended boot',
  '933ac7e1-2eb4-4f13-b844-0e14e2aef915': 'Linux home',
  '0657fd6d-a4ab-43c4-84e5-0933c84b4f4f': 'Linux swap',
  'e6d6d379-f507-44c2-a23c-238f2a3df928': 'Linux LVM',
  'a19d880f-05fc-4d3b-a006-743f0f84911e': 'Linux RAID',
  'ca7d7ccb-63ed-4c53-861c-1742536059cc': 'Linux LUKS',
  'e3c9e316-0b5c-4db8-817d-f92df00215ae': 'Microsoft reserved',
  'ebd0a0a2-b9e5-4433-87c0-68b6b72699c7': 'Microsoft basic data',
  'de94bba4-06d1-4d40-a16a-bfd50179d6ac': 'Windows recovery',
  '5808c8aa-7e8f-42e0-85d2-e1e90434cfb3': 'Windows dynamic disk metadata',
  'af9b60a0-1431-4f62-bc68-3311714a69ad': 'Windows dynamic disk data',
  '0x05': 'extended',
  '0x07': 'NTFS or exFAT',
  '0x0b': 'FAT32',
  '0x0c': 'FAT32 (LBA)',
  '0x0e': 'FAT16 (LBA)',
  '0x0f': 'extended (LBA)',
  '0x27': 'Windows recovery',
  '0x42': 'Windows dynamic disk',
  '0x82': 'Linux swap',
  '0x83': 'Linux',
  '0x85': 'Linux extended',
  '0x8e': 'Linux LVM',
  '0xee': 'GPT protective',
  '0xef': 'EFI system',
  '0xfd': 'Linux RAID',
};

export function typeName(type: string): string {
  return NAMES[type] ?? `type ${type}`;
}
