package main

// examples has an example of each operation, by its function.
var examples = map[string]struct{ request, response string }{
	"create": {
		`{"organization_name":"Akshay Pvt Ltd","email":"admin@example.com","password":"Admin@123"}`,
		`{"id":"6b062bca0f6f0e6d4f1c2a31","organization_name":"Akshay Pvt Ltd","collection_name":"org_akshay_pvt_ltd"}`,
	},
	"get": {"",
		`{"id":"6b062bca0f6f0e6d4f1c2a31","organization_name":"Akshay Pvt Ltd","collection_name":"org_akshay_pvt_ltd","created_at":"2026-11-25T00:28:58.032Z","updated_at":"2026-11-25T00:28:58.032Z"}`,
	},
	"update": {
		`{"organization_name":"Akshay Ltd"}`,
		`{"id":"6b062bca0f6f0e6d4f1c2a31","organization_name":"Akshay Ltd","collection_name":"org_akshay_ltd","created_at":"2026-11-25T00:28:58.032Z","updated_at":"2026-11-25T00:28:59.113Z"}`,
	},
	"delete": {"",
		`{"id":"6b062bca0f6f0e6d4f1c2a31","organization_name":"Akshay Ltd","deleted_at":"2026-11-25T00:28:59.183Z"}`,
	},
	"login":   {`{"email":"admin@example.com","password":"Admin@123"}`, tokens},
	"refresh": {`{"refresh_token":"pQ0cW4mXnT7vB2kLr9sYdA…"}`, tokens},
	"logout":  {`{"refresh_token":"pQ0cW4mXnT7vB2kLr9sYdA…"}`, ""},
	"me": {"",
		`{"admin_id":"6b062bca0f6f0e6d4f1c2a30","email":"admin@example.com","organization_id":"6b062bca0f6f0e6d4f1c2a31","organization_name":"Akshay Pvt Ltd","collection_name":"org_akshay_pvt_ltd","expires_at":"2026-11-25T01:28:58.000Z"}`,
	},
	"health": {"",
		`{"status":"ok","version":"1.0.0","age":3600,"database":{"status":"ok","latency_ms":0.412}}`,
	},
	"jwks": {"",
		`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k","alg":"EdDSA","use":"sig"}]}`,
	},
}

const tokens = `{"access_token":"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.…","token_type":"bearer","expires_in":3600,"refresh_token":"pQ0cW4mXnT7vB2kLr9sYdA…"}`
