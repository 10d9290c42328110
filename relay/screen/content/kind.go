package content

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
)

// Kind is what a file is by its first octets, in words for a reader. The set is
// short: what matters for safety, and what is often sent.
type Kind string

// The kinds.
const (
	KindUnknown  Kind = ""
	KindWindows  Kind = "a Windows program"
	KindUnix     Kind = "a Unix program"
	KindMac      Kind = "a macOS program"
	KindShell    Kind = "a script"
	KindShortcut Kind = "a Windows shortcut"
	KindJava     Kind = "a Java class"
	KindHelp     Kind = "a compiled help file"
	KindOneNote  Kind = "a OneNote file"
	KindZip      Kind = "a zip archive"
	KindOOXML    Kind = "an Office document"
	KindODF      Kind = "an OpenDocument file"
	KindJar      Kind = "a Java program"
	KindAndroid  Kind = "an Android program"
	KindOLE      Kind = "an Office document of the old form"
	KindRAR      Kind = "a rar archive"
	Kind7z       Kind = "a 7z archive"
	KindXZ       Kind = "an xz archive"
	KindBzip2    Kind = "a bzip2 archive"
	KindCabinet  Kind = "a cabinet archive"
	KindACE      Kind = "an ace archive"
	KindGzip     Kind = "a gzip archive"
	KindTar      Kind = "a tar archive"
	KindDisk     Kind = "a disk image"
	KindPDF      Kind = "a PDF document"
	KindRTF      Kind = "an RTF document"
	KindHTML     Kind = "an HTML page"
	KindSVG      Kind = "an SVG picture"
	KindCalendar Kind = "a calendar"
	KindPicture  Kind = "a picture"
	KindMedia    Kind = "a sound or film"
)

func (k Kind) isZip() bool {
	return k == KindZip || k == KindOOXML || k == KindODF || k == KindJar || k == KindAndroid
}

func (k Kind) isArchive() bool {
	return slices.Contains([]Kind{KindZip, KindRAR, Kind7z, KindXZ, KindBzip2, KindCabinet, KindACE, KindGzip, KindTar, KindDisk}, k)
}

// isProgram says that a system runs such a file when it is opened.
func (k Kind) isProgram() bool {
	return slices.Contains([]Kind{KindWindows, KindUnix, KindMac, KindShortcut, KindJava, KindJar, KindAndroid, KindHelp}, k)
}

// magic is how files of a kind begin.
type magic struct {
	at    int
	bytes string
	kind  Kind
}

// magics in the order in which they are tried. The values are those of the formats'
// own descriptions.
var magics = [...]magic{
	{0, "\x7fELF", KindUnix},
	{0, "\xfe\xed\xfa\xce", KindMac}, {0, "\xfe\xed\xfa\xcf", KindMac}, {0, "\xce\xfa\xed\xfe", KindMac}, {0, "\xcf\xfa\xed\xfe", KindMac},
	{0, "L\x00\x00\x00\x01\x14\x02\x00", KindShortcut},
	{0, "ITSF", KindHelp},
	{0, "\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d", KindOneNote},
	{0, "PK\x03\x04", KindZip}, {0, "PK\x05\x06", KindZip}, {0, "PK\x07\x08", KindZip},
	{0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", KindOLE},
	{0, "Rar!\x1a\x07", KindRAR},
	{0, "7z\xbc\xaf\x27\x1c", Kind7z},
	{0, "\xfd7zXZ\x00", KindXZ},
	{0, "BZh", KindBzip2},
	{0, "MSCF\x00\x00\x00\x00", KindCabinet},
	{7, "**ACE**", KindACE},
	{0, "\x1f\x8b\x08", KindGzip},
	{257, "ustar", KindTar},
	{0x8001, "CD001", KindDisk},
	{0, "vhdxfile", KindDisk}, {0, "conectix", KindDisk},
	{0, "%PDF-", KindPDF},
	{0, `{\rt`, KindRTF},
	{0, "\x89PNG\r\n\x1a\n", KindPicture}, {0, "\xff\xd8\xff", KindPicture}, {0, "GIF87a", KindPicture}, {0, "GIF89a", KindPicture},
	{0, "II*\x00", KindPicture}, {0, "MM\x00*", KindPicture}, {8, "WEBP", KindPicture},
	{0, "ID3", KindMedia}, {0, "OggS", KindMedia}, {0, "fLaC", KindMedia}, {4, "ftyp", KindMedia}, {8, "WAVE", KindMedia}, {8, "AVI ", KindMedia}, {0, "\x1aE\xdf\xa3", KindMedia},
}

// magicsBy has the magics that a file may have by its first octet, in their order.
var magicsBy = func() (by [256][]magic) {
	for c := range by {
		for _, m := range magics {
			if m.at > 0 || m.bytes[0] == byte(c) {
				by[c] = append(by[c], m)
			}
		}
	}
	return by
}()

// kindOf looks at the first octets, and for texts, which have no magic, at what the
// name or the type says too.
func kindOf(head []byte, name, declared string) Kind {
	if kind := kindOfProgram(head); kind != KindUnknown {
		return kind
	}
	if len(head) > 0 {
		for _, m := range magicsBy[head[0]] {
			if len(head) >= m.at+len(m.bytes) && string(head[m.at:m.at+len(m.bytes)]) == m.bytes {
				return m.kind
			}
		}
	}
	return kindOfText(head, name, declared)
}

// kindOfProgram knows the formats whose magic is too short to be believed alone.
func kindOfProgram(head []byte) Kind {
	switch {
	case bytes.HasPrefix(head, []byte("MZ")) && len(head) >= 0x40:
		at := binary.LittleEndian.Uint32(head[0x3c:])
		known := int64(at)+2 <= int64(len(head)) && slices.Contains([]string{"PE", "NE", "LE", "LX"}, string(head[at:at+2]))
		if known || bytes.IndexByte(head[:0x40], 0) >= 0 {
			return KindWindows
		}
	case bytes.HasPrefix(head, []byte("\xca\xfe\xba\xbe")) && len(head) >= 8:
		if binary.BigEndian.Uint32(head[4:]) < 0x20 { // the number of architectures; of a class the version, from 45
			return KindMac
		}
		return KindJava
	case bytes.HasPrefix(head, []byte("#!/")), bytes.HasPrefix(head, []byte("#! /")):
		return KindShell
	}
	return KindUnknown
}

// textWindow is how far into a text its kind is looked for.
const textWindow = 1 << 10

// kindOfText knows HTML, SVG and calendars, in UTF-16 too.
func kindOfText(head []byte, name, declared string) Kind {
	var room [firstLook]byte
	window := textStart(room[:0], head[:min(len(head), firstLook)])
	if len(head) > firstLook && (len(window) < len("begin:vcalendar") || bytes.HasPrefix(window, []byte("<?xml"))) { // what begins later, or says more later
		window = textStart(nil, head[:min(len(head), 2*textWindow)])
	}
	last, _ := extensions(name)
	switch {
	case last == "tar": // the form of before 1988 has no magic
		return KindTar
	case bytes.HasPrefix(window, []byte("begin:vcalendar")), declared == "text/calendar", declared == "application/ics", last == "ics", last == "vcs":
		return KindCalendar
	case bytes.HasPrefix(window, []byte("<svg")), bytes.HasPrefix(window, []byte("<?xml")) && bytes.Contains(window, []byte("<svg")), declared == "image/svg+xml", last == "svg":
		return KindSVG
	case beginsHTML(window), declared == "text/html", declared == "application/xhtml+xml", slices.Contains(pageExtensions[:], last):
		return KindHTML
	}
	return KindUnknown
}

// firstLook is how much of a text nearly always shows what it begins with.
const firstLook = 64

// textStart adds text as appendPlain does, without the marks and the space that it
// begins with.
func textStart(b, text []byte) []byte {
	b = appendPlain(b, text)
	b = bytes.TrimPrefix(bytes.TrimPrefix(b, []byte("\xff\xfe")), []byte("\xef\xbb\xbf"))
	b = bytes.TrimLeft(b, " \t\r\n")
	return b[:min(len(b), textWindow)]
}

var pageExtensions = [...]string{"htm", "html", "xhtml", "shtml", "xht"}

// appendPlain adds text in lower case, without the zeros of UTF-16.
func appendPlain(b, text []byte) []byte {
	end := len(b)
	b = append(b, text...)
	for _, c := range text {
		b[end] = lowerOctet(c)
		if c != 0 {
			end++
		}
	}
	return b[:end]
}

func beginsHTML(window []byte) bool {
	for _, tag := range [...]string{"<!doctype html", "<html", "<head", "<body", "<script", "<iframe", "<meta ", "<form"} {
		if bytes.HasPrefix(window, []byte(tag)) {
			return true
		}
	}
	return false
}

// class is what a file is by the extension of its name.
type class int

const (
	classUnknown    class = iota
	classProgram          // the system runs it
	classScript           // an interpreter or a control panel runs it
	classSource           // a program in a language that developers mail to each other
	classDisk             // the system mounts it, and what is in it bears no mark of the web
	classMacros           // an office document that may hold programs
	classOldOffice        // OLE or RTF
	classNewOffice        // OOXML and OpenDocument
	classPDF              // PDF
	classArchive          // archives
	classPicture          // pictures
	classMedia            // sound and film
	classText             // text without programs
	classPage             // HTML
	classMailObject       // messages, contacts, calendars
)

// active says that opening such a file runs something.
func (c class) active() bool { return c == classProgram || c == classScript }

// harmless says that a reader takes such a file for something to look at.
func (c class) harmless() bool { return c >= classOldOffice && c <= classText }

var classes = func() map[string]class {
	table := map[string]class{}
	for c, words := range map[class]string{
		classProgram:    "exe com scr pif cpl dll sys ocx drv msi msp mst msix appx msixbundle appxbundle gadget jar jnlp apk app application run elf deb rpm pkg dmg ipa xll xap air",
		classScript:     "bat cmd js jse vbs vbe vb wsf wsh wsc ws ps1 ps1xml ps2 psc1 psd1 psm1 msh hta sct reg inf ins isp scf lnk url website desktop msc chm hlp pyc pyw command applescript scpt action workflow library-ms search-ms settingcontent-ms appref-ms appcontent-ms theme themepack diagcab printerexport one onepkg iqy slk xnk mde ade adp mad maf mda mdb accde rdp job",
		classSource:     "py pl rb sh bash csh ksh zsh awk lua tcl php jsp asp aspx",
		classDisk:       "iso img vhd vhdx udf nrg toast daa mdf",
		classMacros:     "docm dotm xlsm xltm xlam xlsb pptm potm ppam ppsm sldm xla xlm ppa",
		classOldOffice:  "doc dot xls xlt ppt pot pps rtf wps pub vsd mpp",
		classNewOffice:  "docx dotx xlsx xltx pptx potx ppsx vsdx odt ods odp odg",
		classPDF:        "pdf",
		classArchive:    "zip rar 7z gz tgz tar bz2 tbz tbz2 xz txz lzma z lz zst cab ace arj lzh lha zipx r00 001",
		classPicture:    "jpg jpeg jpe jfif png gif bmp tif tiff webp heic heif ico svg psd",
		classMedia:      "mp3 wav m4a aac ogg flac wma mp4 m4v mov avi mkv webm wmv mpg mpeg 3gp",
		classText:       "txt text csv log md xml json yaml yml ini conf",
		classPage:       "htm html xhtml shtml xht mht mhtml",
		classMailObject: "eml msg ics vcs vcf p7s p7m p7c asc sig pgp gpg",
	} {
		for word := range strings.FieldsSeq(words) {
			table[word] = c
		}
	}
	return table
}()

// endsLikeZip says that a program would open the file as a zip, whatever its first
// octets are.
func endsLikeZip(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		last, _ := extensions(name)
		return last == "zip" || last == "jar" || classes[last] == classNewOffice || classes[last] == classMacros && strings.HasSuffix(last, "m")
	})
}

// contradicts says that a file of kind k is not what its extension promises.
func (c class) contradicts(k Kind) bool {
	if c == classUnknown || k == KindUnknown || c.active() || c == classSource || c == classDisk || c == classMailObject {
		return false
	}
	switch {
	case k.isProgram(), k == KindOneNote:
		return c != classArchive || k == KindShortcut || k == KindHelp || k == KindOneNote || k == KindWindows || k == KindUnix || k == KindMac
	case k.isArchive():
		return c != classArchive && c != classNewOffice && c != classMacros
	case k.isZip(), k == KindOLE, k == KindRTF:
		return c == classPDF || c == classPicture || c == classMedia || c == classText || c == classPage || c == classArchive && k != KindOOXML && k != KindODF
	case k == KindHTML:
		return c == classPDF || c == classPicture || c == classMedia || c == classNewOffice || c == classArchive
	case k == KindShell:
		return c == classPDF || c == classPicture || c == classMedia || c == classNewOffice || c == classOldOffice || c == classArchive
	case k == KindPDF:
		return c == classPicture || c == classMedia || c == classNewOffice || c == classArchive
	}
	return false
}

// contradictsType is the same for the declared type, as far as it promises something
// to look at.
func contradictsType(declared string, k Kind) bool {
	top, _, _ := strings.Cut(declared, "/")
	switch {
	case declared == "application/pdf":
		return classPDF.contradicts(k)
	case top == "image" && k != KindSVG, top == "audio", top == "video":
		return classPicture.contradicts(k)
	case top == "text":
		return k.isProgram() || k.isArchive()
	}
	return false
}
