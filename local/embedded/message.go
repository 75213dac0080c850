package embedded

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The wire protocol of MongoDB: every message starts with four little-endian
// 32-bit integers, its length, id, the id it answers and its kind. All kinds
// that FerretDB knows go on with 32 flags.
// https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
const (
	headerSize     = 16
	flagsSize      = 4
	maxMessageSize = 48_000_000

	opReply = 1
	opQuery = 2004 // of old, for the first handshake
	opMsg   = 2013

	moreToCome = 1 << 1 // a flag of opMsg
)

func readMessage(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(length[:])
	if n < headerSize+flagsSize || n > maxMessageSize {
		return nil, fmt.Errorf("message of %d bytes", n)
	}
	message := make([]byte, n)
	copy(message, length[:])
	_, err := io.ReadFull(r, message[4:])
	return message, err
}

func kind(message []byte) uint32 { return binary.LittleEndian.Uint32(message[12:]) }

func wantsReply(request []byte) bool {
	flags := binary.LittleEndian.Uint32(request[headerSize:])
	return kind(request) != opMsg || flags&moreToCome == 0
}

// message returns an opMsg with one document: the reply to a request, or
// another request in its place.
func message(request []byte, document bson.D) ([]byte, error) {
	body, err := bson.Marshal(document)
	if err != nil {
		return nil, err
	}
	id := request[4:8]
	m := make([]byte, 0, headerSize+flagsSize+1+len(body))
	m = binary.LittleEndian.AppendUint32(m, uint32(cap(m)))
	m = append(m, id...)
	m = append(m, id...)
	m = binary.LittleEndian.AppendUint32(m, opMsg)
	m = binary.LittleEndian.AppendUint32(m, 0) // flags
	m = append(m, 0)                           // a section with one document
	return append(m, body...), nil
}

// document returns the document that a message is about, the command or its
// reply, nil if it has none. It may be malformed.
func document(message []byte) bson.Raw {
	rest := message[headerSize+flagsSize:]
	switch kind(message) {
	case opMsg:
		// Sections: a byte 0 and the document, or a byte 1 and a sequence of
		// others that begins with its size.
		for len(rest) > 4 && rest[0] == 1 {
			size := binary.LittleEndian.Uint32(rest[1:])
			if size < 4 || int64(size) > int64(len(rest)-1) {
				return nil
			}
			rest = rest[1+size:]
		}
		if len(rest) == 0 || rest[0] != 0 {
			return nil
		}
		rest = rest[1:]
	case opQuery:
		// The collection's name, two numbers, the document.
		end := bytes.IndexByte(rest, 0)
		if end < 0 || len(rest) < end+1+8 {
			return nil
		}
		rest = rest[end+1+8:]
	case opReply:
		// A cursor's id, two numbers, the document.
		if len(rest) < 16 {
			return nil
		}
		rest = rest[16:]
	default:
		return nil
	}
	if len(rest) < 5 {
		return nil
	}
	size := binary.LittleEndian.Uint32(rest)
	if size < 5 || int64(size) > int64(len(rest)) {
		return nil
	}
	return bson.Raw(rest[:size])
}

// commandName returns the name of the command in a request, which is that of
// the document's first field.
func commandName(request []byte) string {
	d := document(request)
	if len(d) < 5 {
		return ""
	}
	name, _, _ := bytes.Cut(d[5:], []byte{0}) // behind the size and the field's type
	return string(name)
}
