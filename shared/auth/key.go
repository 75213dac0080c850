package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

// publicKey is a key that verifies tokens.
type publicKey struct {
	method jwt.SigningMethod
	key    crypto.PublicKey
	jwk    jwk
}

// jwk is a public key in the format of RFC 7517.
type jwk struct {
	KeyType   string `json:"kty"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	Y         string `json:"y,omitempty"`
	KeyID     string `json:"kid"`
	Algorithm string `json:"alg"`
	Use       string `json:"use"`
}

// JWKS returns the public keys in data, which is PEM, as a JSON Web Key Set (RFC
// 7517). Their ids are thumbprints (RFC 7638). Empty data makes an empty set.
func JWKS(data []byte) ([]byte, error) {
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	var keys []publicKey
	if len(data) > 0 {
		var err error
		if keys, err = parsePublicKeys(data); err != nil {
			return nil, err
		}
	}
	for _, k := range keys {
		set.Keys = append(set.Keys, k.jwk)
	}
	return json.Marshal(set)
}

var errKeyType = errors.New("holds a key that is neither Ed25519 nor on the curve P-256")

// newPublicKey returns the key with its id, which is the thumbprint. The key
// must be Ed25519 or P-256.
func newPublicKey(key crypto.PublicKey) (publicKey, error) {
	encode := base64.RawURLEncoding.EncodeToString
	k := publicKey{key: key, jwk: jwk{Use: "sig"}}
	var members string // the required ones, in order: the thumbprint is their hash
	switch key := key.(type) {
	case ed25519.PublicKey:
		k.method = jwt.SigningMethodEdDSA
		k.jwk.KeyType, k.jwk.Curve, k.jwk.X = "OKP", "Ed25519", encode(key)
		members = fmt.Sprintf(`{"crv":%q,"kty":%q,"x":%q}`, k.jwk.Curve, k.jwk.KeyType, k.jwk.X)
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return publicKey{}, errKeyType
		}
		point, err := key.Bytes() // 4, then X and Y of 32 bytes each
		if err != nil {
			return publicKey{}, err
		}
		k.method = jwt.SigningMethodES256
		k.jwk.KeyType, k.jwk.Curve, k.jwk.X, k.jwk.Y = "EC", "P-256", encode(point[1:33]), encode(point[33:])
		members = fmt.Sprintf(`{"crv":%q,"kty":%q,"x":%q,"y":%q}`, k.jwk.Curve, k.jwk.KeyType, k.jwk.X, k.jwk.Y)
	default:
		return publicKey{}, errKeyType
	}
	sum := sha256.Sum256([]byte(members))
	k.jwk.KeyID, k.jwk.Algorithm = encode(sum[:]), k.method.Alg()
	return k, nil
}

// parsePublicKeys parses one or more public keys in PEM.
func parsePublicKeys(data []byte) ([]publicKey, error) {
	var keys []publicKey
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			if len(keys) == 0 {
				return nil, errors.New("holds no public key in PEM")
			}
			return keys, nil
		}
		data = rest
		if block.Type != "PUBLIC KEY" {
			return nil, fmt.Errorf("holds a %.40q, but only public keys are allowed", block.Type)
		}
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, errors.New("holds a public key that can't be read")
		}
		key, err := newPublicKey(parsed)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
}

// parsePrivateKey parses a private key in PEM: PKCS #8, or SEC 1 as openssl
// writes it. Its errors hold no part of the key.
func parsePrivateKey(data []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("is not a private key in PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		if parsed, err = x509.ParseECPrivateKey(block.Bytes); err != nil {
			return nil, errors.New("is a private key that can't be read")
		}
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, errKeyType
	}
	return signer, nil
}
