/** INF files in the shapes that vendors ship, reduced to what matters; written here, ids and structure after the real ones. */

/** As virtio-win ships its block driver: one models section per generation, x86 and x64 in one file. */
export const VIRTIO_BLOCK_INF = `; Storage driver
[Version]
Signature="$Windows NT$"
Class=SCSIAdapter
ClassGUID={4D36E97B-E325-11CE-BFC1-08002BE10318}
Provider=%Vendor%
DriverVer=07/12/2024,100.95.104.26200
CatalogFile=vioblk.cat
PnpLockDown = 1

[SourceDisksNames]
1 = %DiskId%,,,""
[SourceDisksFiles]
vioblk.sys = 1,,
[DestinationDirs]
DefaultDestDir = 12 ; drivers
vioblk_files = 12

[Manufacturer]
%Vendor% = Models,NTx86.6.1,NTamd64.6.1,NTamd64.10.0

[Models.NTx86.6.1]
%Name% = install, PCI\\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00, PCI\\VEN_1AF4&DEV_1001
[Models.NTamd64.6.1]
%Name% = install, PCI\\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00, PCI\\VEN_1AF4&DEV_1001
[Models.NTamd64.10.0]
%Name% = install, PCI\\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00, PCI\\VEN_1AF4&DEV_1001
%Name% = install, PCI\\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01, PCI\\VEN_1AF4&DEV_1042

[install]
CopyFiles = vioblk_files
[install.Services]
AddService = vioblk, 0x00000002, service, log
[vioblk_files]
vioblk.sys,,,2

[service]
DisplayName = %Name%
ServiceType = %SERVICE_KERNEL_DRIVER%
StartType = %SERVICE_BOOT_START%
ErrorControl = %SERVICE_ERROR_NORMAL%
ServiceBinary = %12%\\vioblk.sys
LoadOrderGroup = SCSI miniport
AddReg = parameters
[parameters]
HKR, "Parameters\\PnpInterface", "5", %REG_DWORD%, 0x00000001
HKR, Parameters, BusType, 0x00010001, 0x0A
HKR,, Tag, 1, 01, ff
HKR, Parameters, Names, 0x00010000, a, "b, c"
HKR, Parameters, Path, 0x00020000, %%SystemRoot%%\\x
HKR, Parameters,,, default
HKR, Parameters, Gone, 0x00000004
HKLM, Software\\Example, Other, 0, x
[log]
HKR,,TypesSupported,0x00010001,7

[Strings]
Vendor = "Example"
Name = "Example virtual block device"
DiskId = "Example driver disk"
SERVICE_BOOT_START = 0x0
REG_DWORD = 0x00010001
SERVICE_KERNEL_DRIVER = 1
SERVICE_ERROR_NORMAL = 1
`;

/** As Windows ships its AHCI driver: an id of a class, and a section for each product type. */
export const AHCI_INF = `[Version]
Signature = "$WINDOWS NT$"
Class=hdc
ClassGuid={4d36e96a-e325-11ce-bfc1-08002be10318}
Provider=%MS%
DriverVer=06/21/2006,10.0.19041.3636
CatalogFile.NTamd64 = ahci64.cat

[Manufacturer]
%MS%=MS_HDC,NTamd64.10.0,NTamd64.10.0.3

[MS_HDC.NTamd64.10.0]
%PCI\\CC_010601.DeviceDesc%=ahci_inst, PCI\\CC_010601
[MS_HDC.NTamd64.10.0.3]
%PCI\\CC_010601.DeviceDesc%=ahci_server, PCI\\CC_010601

[ahci_inst.NTamd64]
Include = storport.inf, other.inf
Needs = storport_install
FeatureScore = 0x40
CopyFiles=@ahci.sys
[ahci_inst.NTamd64.Services]
AddService = ahci, %SPSVCINST_ASSOCSERVICE%, ahci_service
[ahci_server.NT]
CopyFiles=@ahci.sys
[ahci_server.NT.Services]
AddService = ahci, 2, ahci_service
AddService = helper, 0, helper_service

[ahci_service]
ServiceType    = 1
StartType      = 0
ErrorControl   = 3
ServiceBinary  = %12%\\ahci.sys
LoadOrderGroup = SCSI Miniport
[helper_service]
ServiceBinary = %13%\\sub\\helper.exe
ServiceType = 0x10
StartType = 2

[DestinationDirs]
DefaultDestDir = 13
[SourceDisksNames.amd64]
3 = %MS%,,,\\amd64
[SourceDisksFiles.amd64]
ahci.sys = 3, bin

[Strings]
MS = "Microsoft"
SPSVCINST_ASSOCSERVICE = 0x00000002
PCI\\CC_010601.DeviceDesc = "Standard SATA AHCI Controller"
`;

/** As they were for Windows 2000 and XP: no decorations at all, several vendors, an entry of the manufacturer without an equals sign. */
export const OLD_INF = `[version]
signature="$CHICAGO$"
class=SCSIAdapter
classguid={4D36E97B-E325-11CE-BFC1-08002BE10318}
provider=%V%
driverver=5/4/2003

[manufacturer]
%V%=LSI
Bare

[LSI]
%LSI1030% = SYMMPI_Inst, PCI\\VEN_1000&DEV_0030
"Without an id" = SYMMPI_Inst
[Bare]
%LSI1030% = SYMMPI_Inst,,PCI\\VEN_1000&DEV_0054, *GENERIC

[SYMMPI_Inst]
CopyFiles = files
[SYMMPI_Inst.Services]
AddService = symmpi, 2, symmpi_Service
[files]
symmpi.sys, symmpi.sy_
[symmpi_Service]
ServiceType = 1
StartType = 0
ServiceBinary = %12%\\symmpi.sys
LoadOrderGroup = SCSI miniport
[DestinationDirs]
files = 12
[strings]
V = "LSI Logic"
LSI1030 = "LSI Logic PCI SCSI/FC MPI Driver"
`;
