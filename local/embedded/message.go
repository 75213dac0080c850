package embedded

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The wire protocol of MongoDB. A message starts with four 32-bit integers in
// little-endian order: its length, its ID, the ID of the request that it answers
// and its kind (opcode). In the kinds that FerretDB knows, 32 flags follow.
// https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
const (
	headerSize     = 16
	flagsSize      = 4
	maxMessageSize = 48_000_000 // bytes

	opReply = 1
	opQuery = 2004 // deprecated; drivers use it for the first handshake
	opMsg   = 2013

	moreToCome = 1 << 1 // a flag of opMsg
)

// readMessage reads one message.
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

// kind returns the opcode of a message.
func kind(message []byte) uint32 { return binary.LittleEndian.Uint32(message[12:]) }

// wantsReply tells whether the client expects a reply to the request.
func wantsReply(request []byte) bool {
	flags := binary.LittleEndian.Uint32(request[headerSize:])
	return kind(request) != opMsg || flags&moreToCome == 0
}

// message returns an opMsg with one document. It has the ID of the request, so it
// may be the reply to it, or a request in its place.
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
	m = append(m, 0)                           // kind of the section: one document
	return append(m, body...), nil
}

// document returns the document in a message, which is the command or the reply.
// It returns nil if there is none. The document may be malformed.
func document(message []byte) bson.Raw {
	rest := message[headerSize+flagsSize:]
	switch kind(message) {
	case opMsg:
		// A section is the byte 0 and the document, or the byte 1 and a sequence
		// of other documents, which starts with its size in bytes.
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
		// The name of the collection, two numbers, the document.
		end := bytes.IndexByte(rest, 0)
		if end < 0 || len(rest) < end+1+8 {
			return nil
		}
		rest = rest[end+1+8:]
	case opReply:
		// The ID of the cursor, two numbers, the document.
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

// commandName returns the name of the command in a request. That is the name of
// the first field of the document.
func commandName(request []byte) string {
	d := document(request)
	if len(d) < 5 {
		return ""
	}
	name, _, _ := bytes.Cut(d[5:], []byte{0}) // after the size and the type of the field
	return string(name)
}
